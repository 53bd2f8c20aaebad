'use strict';
// The server goes away and comes back while queues and workers stand.

const assert = require('node:assert/strict');
const { test, until } = require('../../lib/cases');
const { sleep } = require('../../lib/server');

const NAME = 'agent__blog-writer';

test('restart: queue, worker and events reconnect and go on', { own: [] }, async (t) => {
  const queue = t.queue(NAME);
  const ran = [];
  t.worker(NAME, async (job) => void ran.push(job.name));
  const events = await t.events(NAME);
  const completed = [];
  events.on('completed', ({ jobId }) => completed.push(jobId));
  await queue.add('before', {});
  await until('the first ran', () => ran.includes('before'));
  await t.server.restart();
  await queue.add('after', {});
  await until('the second ran', () => ran.includes('after'));
  await queue.add('delayed', {}, { delay: 200 });
  await until('a delayed one ran', () => ran.includes('delayed'));
  await until('events are told again', () => completed.length >= 2);
});

test('restart: adding while the server is away waits for it', { own: [] }, async (t) => {
  const queue = t.queue(NAME);
  await queue.waitUntilReady();
  await t.server.stop();
  const adding = queue.add('while away', {});
  await sleep(300);
  await t.server.spawn();
  const job = await adding;
  assert.equal((await queue.getJob(job.id)).name, 'while away');
});

/**
 * A worker that ends a job while the server is loading is told so and takes that for the job's failure: the job has further
 * attempts.
 */
const AGAIN = { attempts: 5 };

/** 300 jobs, workers busy, the server ends by `signal`; afterwards every job ran and none is lost. */
async function nothingLost(t, signal) {
  const queue = t.queue(NAME);
  const runs = new Map();
  const processor = async (job) => {
    await sleep(2);
    runs.set(job.data.n, (runs.get(job.data.n) || 0) + 1);
  };
  const options = { concurrency: 5, stalledInterval: 500, lockDuration: 2000, maxStalledCount: 5 };
  const jobs = Array.from({ length: 300 }, (_, n) => ({ name: 'write', data: { n }, opts: { ...AGAIN, ...(n % 10 ? {} : { delay: 1000 }) } }));
  await queue.addBulk(jobs);
  t.worker(NAME, processor, options);
  t.worker(NAME, processor, options);
  await until('fifty ran', () => runs.size >= 50);
  await t.server.restart(signal);
  await until('every job is completed', async () => (await queue.getCompletedCount()) === 300);
  assert.equal(runs.size, 300);
  assert.deepEqual(await t.counts(queue, 'waiting', 'active', 'delayed', 'failed'), { waiting: 0, active: 0, delayed: 0, failed: 0 });
  const again = [...runs.values()].filter((count) => count > 1).length;
  assert.ok(again <= 20, `${again} jobs ran more than once`);
}

const AOF = ['--appendonly', 'yes', '--appendfsync', 'always'];

test('restart: with AOF nothing is lost (SIGTERM)', { own: AOF }, (t) => nothingLost(t, 'SIGTERM'));
test('restart: with AOF nothing is lost (SIGKILL)', { own: AOF }, (t) => nothingLost(t, 'SIGKILL'));

// Jobs are added and worked on all the while. Each has an id, so that an addition that is sent again adds nothing.
test('restart: 5000 jobs under way survive three kills', { own: AOF, limit: 300_000 }, async (t) => {
  const JOBS = 5000;
  const queue = t.queue(NAME);
  const runs = new Map();
  const processor = async (job) => {
    await sleep(1);
    runs.set(job.data.n, (runs.get(job.data.n) || 0) + 1);
    return job.data.n;
  };
  const options = { concurrency: 25, stalledInterval: 500, lockDuration: 8000, maxStalledCount: 9 };
  for (let n = 0; n < 4; n += 1) t.worker(NAME, processor, options);
  // Without a ready check, a server that is loading says so to whoever adds. Of a pipeline that was answered in part, ioredis
  // gives up the rest.
  const add = async (jobs) => {
    for (;;) {
      try {
        return await queue.addBulk(jobs);
      } catch (error) {
        if (!/^LOADING|^Command aborted/.test(error.message)) throw error;
        await sleep(50);
      }
    }
  };
  const adding = (async () => {
    for (let n = 0; n < JOBS; n += 50) {
      await add(Array.from({ length: 50 }, (_, k) => ({ name: 'write', data: { n: n + k }, opts: { ...AGAIN, jobId: `job-${n + k}` } })));
    }
  })();
  for (const share of [0.2, 0.45, 0.7]) {
    await until(`${share} of the jobs ran`, () => runs.size >= JOBS * share);
    await t.server.restart('SIGKILL');
  }
  await adding;
  await until('the log is loaded', () => queue.getCompletedCount().catch(() => 0));
  const ended = async () => (await queue.getCompletedCount()) + (await queue.getFailedCount()) === JOBS;
  await until('every job has ended', ended, 120_000).catch(async (error) => {
    throw new Error(`${error.message}: ${runs.size} ran, ${JSON.stringify(await queue.getJobCounts())}`);
  });
  assert.equal(runs.size, JOBS);
  assert.deepEqual(await t.counts(queue, 'waiting', 'active', 'delayed', 'failed'), { waiting: 0, active: 0, delayed: 0, failed: 0 });
  const completed = await queue.getJobs(['completed'], 0, JOBS);
  assert.deepEqual(completed.map((job) => job.returnvalue).sort((a, b) => a - b), Array.from({ length: JOBS }, (_, n) => n));
  // What was at work when the server went may run again: at most a hundred jobs each time.
  const again = [...runs.values()].filter((count) => count > 1).length;
  assert.ok(again <= 300, `${again} jobs ran more than once`);
});

test('restart: with AOF schedulers, delayed jobs and flows survive', { own: AOF }, async (t) => {
  const queue = t.queue(NAME);
  await queue.upsertJobScheduler('tick', { every: 300 }, { name: 'tick' });
  const delayed = await queue.add('delayed', {}, { delay: 3000 });
  const tree = await t.flow().add({ name: 'parent', queueName: NAME, children: [{ name: 'child', queueName: NAME, opts: { priority: 3 } }] });
  await queue.pause();
  await t.server.restart();
  assert.equal(await queue.isPaused(), true);
  await queue.resume();
  const ran = [];
  t.worker(NAME, async (job) => void ran.push(job.name));
  await until('all kinds ran', async () => (await delayed.isCompleted()) && (await tree.job.isCompleted()) && ran.includes('tick'));
  await queue.removeJobScheduler('tick');
});
