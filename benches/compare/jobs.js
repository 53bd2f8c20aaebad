'use strict';
// node jobs.js MODULES PORT JOBS: prints 'ready', reads the name of a phase, runs it, prints 'done PHASE SECONDS'; and again.
// MODULES is a directory with bullmq5 and ioredis installed.

const path = require('node:path');
const readline = require('node:readline');

const [, , modules, port, jobs] = process.argv;
const { Queue, Worker } = require(path.join(modules, 'node_modules', 'bullmq5'));
const IORedis = require(path.join(modules, 'node_modules', 'ioredis'));

const NAME = 'agent__blog-writer';
const COUNT = Number(jobs);
const BULK = 500;
const LANES = 4;
const CONCURRENCY = 25;

const connect = () => new IORedis(Number(port), '127.0.0.1', { maxRetriesPerRequest: null, enableReadyCheck: false, lazyConnect: true });
const data = (n) => ({ post: n, title: 'On queues', tags: ['a', 'b'], body: 'x'.repeat(100) });

const queues = Array.from({ length: LANES }, () => new Queue(NAME, { connection: connect() }));

/** Splits 0..COUNT among the lanes. */
const lanes = (body) => Promise.all(queues.map((queue, lane) => body(queue, Math.floor((COUNT * lane) / LANES), Math.floor((COUNT * (lane + 1)) / LANES))));

const phases = {
  async addBulk() {
    await lanes(async (queue, from, to) => {
      for (let n = from; n < to; n += BULK) {
        const size = Math.min(BULK, to - n);
        await queue.addBulk(Array.from({ length: size }, (_, i) => ({ name: 'write', data: data(n + i) })));
      }
    });
  },

  async add() {
    await lanes(async (queue, from, to) => {
      for (let n = from; n < to; n += BULK) {
        const size = Math.min(BULK, to - n);
        await Promise.all(Array.from({ length: size }, (_, i) => queue.add('write', data(n + i))));
      }
    });
  },

  /** Processes COUNT of the jobs that the phases before added. */
  async process() {
    let left = COUNT;
    let finish;
    const finished = new Promise((resolve) => (finish = resolve));
    const options = () => ({ connection: connect(), concurrency: CONCURRENCY });
    const workers = Array.from({ length: LANES }, () => new Worker(NAME, async (job) => job.data.post, options()));
    for (const worker of workers) {
      worker.on('completed', () => {
        left -= 1;
        if (left === 0) finish();
      });
      worker.on('error', (error) => {
        console.error(error);
        process.exit(1);
      });
    }
    await finished;
    this.after = () => Promise.all(workers.map((worker) => worker.close(true)));
  },
};

async function main() {
  await Promise.all(queues.map((queue) => queue.waitUntilReady()));
  console.log('ready');
  for await (const phase of readline.createInterface({ input: process.stdin })) {
    const began = process.hrtime.bigint();
    await phases[phase]();
    console.log(`done ${phase} ${Number(process.hrtime.bigint() - began) / 1e9}`);
    if (phases.after) await phases.after();
    console.log('ready');
  }
  process.exit(0);
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
