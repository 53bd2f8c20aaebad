'use strict';
// What a case gets: queues, workers, flows and events of one BullMQ version, over the platform's connection options.
// BULLMQ=5 or 6 picks the version. Everything a case opens is closed after it, and the database is emptied before it.

const IORedis = require('ioredis');
const { TestServer } = require('../lib/server');

const version = process.env.BULLMQ || '5';
const bullmq = require(`bullmq${version}`);

/** The options of the platform's own code, to the letter. */
const PLATFORM_OPTIONS = { maxRetriesPerRequest: null, enableReadyCheck: false, lazyConnect: true };

let shared = null;

class Context {
  constructor(server) {
    this.server = server;
    this.open = [];
    this.connections = [];
    this.errors = [];
  }

  connect(extra = {}) {
    const client = new IORedis(this.server.url, { ...PLATFORM_OPTIONS, ...extra });
    client.on('error', (error) => this.errors.push(error));
    this.connections.push(client);
    return client;
  }

  keep(thing) {
    thing.on('error', (error) => this.errors.push(error));
    this.open.push(thing);
    return thing;
  }

  queue(name, options = {}) {
    return this.keep(new bullmq.Queue(name, { connection: this.connect(), ...options }));
  }

  worker(name, processor, options = {}) {
    return this.keep(new bullmq.Worker(name, processor, { connection: this.connect(), drainDelay: 1, ...options }));
  }

  async events(name, options = {}) {
    const events = this.keep(new bullmq.QueueEvents(name, { connection: this.connect(), ...options }));
    await events.waitUntilReady();
    return events;
  }

  flow(options = {}) {
    return this.keep(new bullmq.FlowProducer({ connection: this.connect(), ...options }));
  }

  /** Job counts of exactly these states: BullMQ 5 counts paused jobs with the waiting ones, unasked. */
  async counts(queue, ...states) {
    const all = await queue.getJobCounts(...states);
    return Object.fromEntries(states.map((state) => [state, all[state]]));
  }

  /** Keys that are left under a queue's name. */
  async keysOf(name) {
    return (await this.redis.keys(`bull:${name}:*`)).sort();
  }

  async close() {
    await Promise.allSettled(this.open.reverse().map((thing) => thing.close(true)));
    for (const client of this.connections) client.disconnect();
    if (this.server !== shared) this.server.dispose();
  }
}

/** Cases share one server; one that restarts it asks for its own with `{ own: [words of the command line] }`. */
async function makeContext(one) {
  if (shared && !shared.alive()) {
    console.log(`      the server is gone; its log ends:\n${shared.log()}`);
    shared.dispose();
    shared = null;
  }
  if (!one.options.own && !shared) shared = await TestServer.start();
  const t = new Context(one.options.own ? await TestServer.start(one.options.own) : shared);
  t.redis = t.connect();
  await t.redis.flushall();
  return t;
}

function finish() {
  if (shared) shared.dispose();
}

module.exports = { bullmq, version, makeContext, finish, PLATFORM_OPTIONS };
