'use strict';
// Many workers, workers that die, workers that close, locks.

const assert = require('node:assert/strict');
const { spawn } = require('node:child_process');
const path = require('node:path');
const { test, until, signal } = require('../../lib/cases');
const { sleep } = require('../../lib/server');
const { version } = require('../context');

const NAME = 'agent__blog-writer';

test('workers: 50 workers share 1000 jobs, each runs once', async (t) => {
  const queue = t.queue(NAME);
  const runs = new Map();
  const busy = new Set();
  await queue.addBulk(Array.from({ length: 1000 }, (_, n) => ({ name: 'write', data: { n } })));
  const connection = t.connect();
  for (let w = 0; w < 50; w += 1) {
    t.worker(NAME, async (job) => {
      busy.add(w);
      runs.set(job.id, (runs.get(job.id) || 0) + 1);
      await sleep(5);
    }, { connection });
  }
  await until('1000 jobs are done', async () => (await queue.getCompletedCount()) === 1000);
  assert.equal(runs.size, 1000);
  assert.ok([...runs.values()].every((count) => count === 1), 'each job ran once');
  assert.ok(busy.size >= 25, `${busy.size} of 50 workers got jobs`);
  assert.equal(await queue.getActiveCount(), 0);
});

test('workers: one worker with concurrency 50 runs 50 at a time', async (t) => {
  const queue = t.queue(NAME);
  let active = 0;
  let most = 0;
  const all = signal();
  await queue.addBulk(Array.from({ length: 200 }, (_, n) => ({ name: 'write', data: { n } })));
  t.worker(NAME, async () => {
    most = Math.max(most, (active += 1));
    if (active === 50) all.resolve();
    await all.promise;
    active -= 1;
  }, { concurrency: 50 });
  await until('200 jobs are done', async () => (await queue.getCompletedCount()) === 200);
  assert.equal(most, 50);
});

test('workers: producers and 50 workers at once, priorities and delays mixed', async (t) => {
  const queue = t.queue(NAME);
  const runs = new Map();
  for (let w = 0; w < 50; w += 1) {
    t.worker(NAME, async (job) => {
      runs.set(job.id, (runs.get(job.id) || 0) + 1);
      if (job.data.n % 10 === 0 && job.attemptsMade === 0) throw new Error('the first attempt fails');
    });
  }
  const producer = async (p) => {
    for (let n = 0; n < 100; n += 1) {
      const opts = { attempts: 2, ...(n % 3 === 0 ? { priority: 1 + (n % 7) } : {}), ...(n % 5 === 0 ? { delay: n } : {}) };
      await queue.add('write', { p, n }, opts);
    }
  };
  await Promise.all([0, 1, 2, 3, 4].map(producer));
  await until('500 jobs are done', async () => (await queue.getCompletedCount()) === 500);
  assert.equal([...runs.values()].reduce((a, b) => a + b, 0), 550);
});

/** A worker in a process of its own that takes one job and never ends it. */
function workerProcess(t) {
  const child = spawn(process.execPath, [path.join(__dirname, '..', 'hanging-worker.js'), t.server.url, NAME], {
    env: { ...process.env, BULLMQ: version },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const started = signal();
  child.stdout.on('data', (text) => String(text).includes('started') && started.resolve());
  child.once('exit', () => started.reject(new Error('the worker process ended before its job')));
  return { child, started: started.promise };
}

test('stalled: a job of a worker killed by SIGKILL runs again', async (t) => {
  const queue = t.queue(NAME);
  const events = await t.events(NAME);
  const stalled = [];
  events.on('stalled', ({ jobId }) => stalled.push(jobId));
  const job = await queue.add('write', { post: 1 });
  const { child, started } = workerProcess(t);
  await started;
  assert.equal(await job.getState(), 'active');
  child.kill('SIGKILL');
  t.worker(NAME, async () => 'recovered', { stalledInterval: 300, lockDuration: 1000 });
  await until('the job is done', () => job.isCompleted());
  const done = await queue.getJob(job.id);
  assert.equal(done.returnvalue, 'recovered');
  assert.equal(done.stalledCounter, 1);
  await until('it is told', () => stalled.length > 0);
  assert.deepEqual(stalled, [job.id]);
});

test('stalled: a job that stalls too often fails', async (t) => {
  const queue = t.queue(NAME);
  const job = await queue.add('write', { post: 1 });
  const { child, started } = workerProcess(t);
  await started;
  child.kill('SIGKILL');
  t.worker(NAME, async () => 'never', { stalledInterval: 300, lockDuration: 1000, maxStalledCount: 0 });
  await until('the job failed', () => job.isFailed());
  assert.match((await queue.getJob(job.id)).failedReason, /job stalled more than allowable limit/);
});

test('stalled: a slow job keeps its lock and is not taken', async (t) => {
  const queue = t.queue(NAME);
  let runs = 0;
  for (let w = 0; w < 2; w += 1) {
    t.worker(NAME, async () => {
      runs += 1;
      await sleep(4000);
      return 'slow';
    }, { stalledInterval: 300, lockDuration: 2000 });
  }
  const job = await queue.add('write', {});
  await until('the job is done', () => job.isCompleted());
  assert.equal(runs, 1);
  assert.equal((await queue.getJob(job.id)).stalledCounter, 0);
  assert.equal(await t.redis.exists(`bull:${NAME}:${job.id}:lock`), 0);
});

test('locks: jobs taken by hand, extended, finished, refused with a foreign token', async (t) => {
  const queue = t.queue(NAME);
  const worker = t.worker(NAME, undefined, { lockDuration: 60_000 });
  const added = await queue.add('write', {});
  const job = await worker.getNextJob('token-1');
  assert.equal(job.id, added.id);
  const lock = `bull:${NAME}:${job.id}:lock`;
  assert.equal(await t.redis.get(lock), 'token-1');
  const ttl = await t.redis.pttl(lock);
  assert.ok(ttl > 30_000 && ttl <= 60_000, `lock lives ${ttl} ms`);
  assert.equal(await job.extendLock('token-1', 120_000), 1);
  assert.ok((await t.redis.pttl(lock)) > 90_000);
  await assert.rejects(job.moveToCompleted('x', 'token-2', false), /Missing lock|Lock mismatch|is not owned/i);
  await job.moveToCompleted('by hand', 'token-1', false);
  assert.equal((await queue.getJob(job.id)).returnvalue, 'by hand');
  assert.equal(await t.redis.exists(lock), 0);
  assert.equal(await worker.getNextJob('token-1', { block: false }), undefined);
});

test('close: a worker ends its jobs, takes no more, and leaves the rest waiting', async (t) => {
  const queue = t.queue(NAME);
  const ended = [];
  const closing = signal();
  const worker = t.worker(NAME, async (job) => {
    await closing.promise;
    await sleep(100);
    ended.push(job.id);
  }, { concurrency: 2 });
  await queue.addBulk(Array.from({ length: 6 }, (_, n) => ({ name: 'write', data: { n } })));
  await until('two are active', async () => (await queue.getActiveCount()) === 2);
  const closed = worker.close();
  closing.resolve();
  await closed;
  assert.equal(ended.length, 2);
  assert.deepEqual(await t.counts(queue, 'waiting', 'active', 'completed'), { waiting: 4, active: 0, completed: 2 });
  t.worker(NAME, async (job) => void ended.push(job.id));
  await until('the rest ran', async () => (await queue.getCompletedCount()) === 6);
  assert.deepEqual([...ended].sort(), ['1', '2', '3', '4', '5', '6']);
});

test('close: an idle worker that waits on the server closes at once', async (t) => {
  const worker = t.worker(NAME, async () => {}, { drainDelay: 30 });
  const events = await t.events(NAME);
  await until('the worker blocks', async () => (await t.redis.client('LIST')).includes('cmd=bzpopmin'));
  const began = Date.now();
  await worker.close();
  await events.close();
  assert.ok(Date.now() - began < 15_000, `closing took ${Date.now() - began} ms`);
  await until('its connections are gone', async () => !/cmd=(bzpopmin|xread)/.test(await t.redis.client('LIST')));
});

test('scripts: workers go on after SCRIPT FLUSH', async (t) => {
  const queue = t.queue(NAME);
  let runs = 0;
  t.worker(NAME, async () => void (runs += 1));
  await queue.add('write', {});
  await until('one ran', () => runs === 1);
  await t.redis.script('FLUSH');
  for (let n = 0; n < 5; n += 1) await queue.add('write', {});
  await until('six ran', () => runs === 6);
});

test('connection: queue, worker and flow share one client', async (t) => {
  const connection = t.connect();
  const queue = t.queue(NAME, { connection });
  t.worker(NAME, async (job) => job.data.n, { connection });
  const flow = t.flow({ connection });
  await flow.add({ name: 'parent', queueName: NAME, data: { n: 1 }, children: [{ name: 'child', queueName: NAME, data: { n: 2 } }] });
  await until('both are done', async () => (await queue.getCompletedCount()) === 2);
});
