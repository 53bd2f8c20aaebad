'use strict';
// Retries with backoff, failures that end a job, retry by hand, the rate limiter.

const assert = require('node:assert/strict');
const { test, until } = require('../../lib/cases');
const { sleep } = require('../../lib/server');
const { bullmq } = require('../context');

const NAME = 'agent__blog-writer';

/** Runs one job that fails `fails` times and answers the gaps between its starts. */
async function gapsOf(t, jobOptions, workerOptions, fails) {
  const queue = t.queue(NAME);
  const starts = [];
  t.worker(
    NAME,
    async (job) => {
      starts.push(Date.now());
      if (job.attemptsMade < fails) throw new Error(`attempt ${job.attemptsMade + 1} fails`);
      return 'in the end';
    },
    { drainDelay: 30, ...workerOptions },
  );
  const { id } = await queue.add('write', {}, jobOptions);
  await until('the job ends', async () => ['completed', 'failed'].includes(await queue.getJobState(id)) && (await queue.getJob(id)).finishedOn);
  const job = await queue.getJob(id);
  return { job, state: await job.getState(), gaps: starts.slice(1).map((at, n) => at - starts[n]) };
}

/** Not before their time, and before the worker would have looked by itself. */
function near(gaps, wanted) {
  assert.equal(gaps.length, wanted.length);
  gaps.forEach((gap, n) => assert.ok(gap >= wanted[n] - 2 && gap < wanted[n] + 10_000, `gaps ${gaps}, wanted ${wanted}`));
}

test('retries: fixed backoff', async (t) => {
  const { job, state, gaps } = await gapsOf(t, { attempts: 4, backoff: { type: 'fixed', delay: 150 } }, {}, 3);
  assert.equal(state, 'completed');
  assert.equal(job.returnvalue, 'in the end');
  assert.equal(job.attemptsMade, 4);
  assert.equal(job.stacktrace.length, 3);
  near(gaps, [150, 150, 150]);
});

test('retries: exponential backoff', async (t) => {
  const { state, gaps } = await gapsOf(t, { attempts: 4, backoff: { type: 'exponential', delay: 100 } }, {}, 3);
  assert.equal(state, 'completed');
  near(gaps, [100, 200, 400]);
});

test('retries: custom backoff strategy', async (t) => {
  const settings = { backoffStrategy: (attemptsMade) => attemptsMade * 120 };
  const { state, gaps } = await gapsOf(t, { attempts: 3, backoff: { type: 'custom' } }, { settings }, 2);
  assert.equal(state, 'completed');
  near(gaps, [120, 240]);
});

test('retries: without backoff at once, then failed with reason and stack traces', async (t) => {
  const { job, state, gaps } = await gapsOf(t, { attempts: 3 }, {}, 9);
  assert.equal(state, 'failed');
  assert.equal(job.failedReason, 'attempt 3 fails');
  assert.equal(job.attemptsMade, 3);
  assert.equal(job.stacktrace.length, 3);
  near(gaps, [0, 0]);
});

test('retries: UnrecoverableError ends a job at its first attempt', async (t) => {
  const queue = t.queue(NAME);
  let runs = 0;
  t.worker(NAME, async () => {
    runs += 1;
    throw new bullmq.UnrecoverableError('no such post');
  });
  const job = await queue.add('write', {}, { attempts: 5, backoff: 50 });
  await until('the job failed', () => job.isFailed());
  await sleep(200);
  assert.equal(runs, 1);
  assert.equal((await queue.getJob(job.id)).failedReason, 'no such post');
});

test('retries: a failed job is retried by hand, then all of them', async (t) => {
  const queue = t.queue(NAME);
  let broken = true;
  t.worker(NAME, async () => {
    if (broken) throw new Error('down');
    return 'up';
  });
  const jobs = await queue.addBulk([1, 2, 3].map((n) => ({ name: 'write', data: { n } })));
  await until('three failed', async () => (await queue.getFailedCount()) === 3);
  broken = false;
  const job = await queue.getJob(jobs[0].id);
  await job.retry();
  await until('the first is done', async () => (await queue.getCompletedCount()) === 1);
  assert.equal(await queue.getFailedCount(), 2);
  await queue.retryJobs();
  await until('all are done', async () => (await queue.getCompletedCount()) === 3);
  assert.equal(await queue.getFailedCount(), 0);
  await assert.rejects(job.retry(), /is not in the failed state|not in the failed/i);
});

test('retries: a processor delays its own job', async (t) => {
  const queue = t.queue(NAME);
  const starts = [];
  t.worker(NAME, async (job, token) => {
    starts.push(Date.now());
    if (starts.length === 1) {
      await job.moveToDelayed(Date.now() + 250, token);
      throw new bullmq.DelayedError();
    }
    return 'second';
  }, { drainDelay: 30 });
  const job = await queue.add('write', {});
  await until('done', () => job.isCompleted());
  assert.equal(starts.length, 2);
  near([starts[1] - starts[0]], [250]);
});

test('rate limiter: 5 jobs each 500 ms', async (t) => {
  const queue = t.queue('notifications__email');
  const starts = [];
  await queue.addBulk(Array.from({ length: 12 }, (_, n) => ({ name: 'mail', data: { n } })));
  const began = Date.now();
  t.worker('notifications__email', async () => void starts.push(Date.now()), { limiter: { max: 5, duration: 500 }, concurrency: 5 });
  await until('five ran', () => starts.length === 5);
  await until('all ran', () => starts.length === 12);
  assert.ok(starts[5] - began >= 498, `sixth after ${starts[5] - began} ms`);
  assert.ok(starts[10] - began >= 996, `eleventh after ${starts[10] - began} ms`);
  assert.ok(starts[11] - began < 20_000);
});

test('rate limiter: a processor limits its queue by hand', async (t) => {
  const queue = t.queue('notifications__email');
  const starts = [];
  const worker = t.worker(
    'notifications__email',
    async () => {
      starts.push(Date.now());
      if (starts.length === 1) {
        await worker.rateLimit(400);
        throw bullmq.Worker.RateLimitError();
      }
    },
    { limiter: { max: 100, duration: 1000 } },
  );
  const job = await queue.add('mail', {}, { attempts: 1 });
  await until('done', () => job.isCompleted());
  assert.equal(starts.length, 2);
  assert.ok(starts[1] - starts[0] >= 390, `again after ${starts[1] - starts[0]} ms`);
  assert.equal(await queue.getFailedCount(), 0);
});

test('rate limiter: global rate limit and global concurrency', async (t) => {
  const queue = t.queue('notifications__email');
  await queue.setGlobalConcurrency(2);
  assert.equal(await queue.getGlobalConcurrency(), 2);
  await queue.addBulk(Array.from({ length: 10 }, (_, n) => ({ name: 'mail', data: { n } })));
  let active = 0;
  let most = 0;
  const processor = async () => {
    most = Math.max(most, (active += 1));
    await sleep(30);
    active -= 1;
  };
  t.worker('notifications__email', processor, { concurrency: 4 });
  t.worker('notifications__email', processor, { concurrency: 4 });
  await until('ten ran', async () => (await queue.getCompletedCount()) === 10);
  assert.equal(most, 2);
  await queue.removeGlobalConcurrency();
  assert.equal(await queue.getGlobalConcurrency(), null);

  await queue.setGlobalRateLimit(3, 600);
  assert.deepEqual(await queue.getGlobalRateLimit(), { max: 3, duration: 600 });
  const began = Date.now();
  await queue.addBulk(Array.from({ length: 7 }, (_, n) => ({ name: 'mail', data: { n } })));
  await until('seventeen ran', async () => (await queue.getCompletedCount()) === 17);
  assert.ok(Date.now() - began >= 1100, `three windows took ${Date.now() - began} ms`);
  await queue.removeGlobalRateLimit();
  assert.equal(await queue.getGlobalRateLimit(), null);
});
