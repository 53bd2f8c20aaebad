'use strict';
// node hanging-worker.js URL QUEUE: takes one job and never ends it; prints 'started' when it has it.

const IORedis = require('ioredis');
const { bullmq, PLATFORM_OPTIONS } = require('./context');

const [, , url, name] = process.argv;
const connection = new IORedis(url, PLATFORM_OPTIONS);
new bullmq.Worker(
  name,
  () => {
    console.log('started');
    return new Promise(() => {});
  },
  { connection, lockDuration: 1000, stalledInterval: 300 },
);
