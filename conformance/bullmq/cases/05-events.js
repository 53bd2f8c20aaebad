'use strict';
// QueueEvents, worker events, progress, logs, data updates.

const assert = require('node:assert/strict');
const { test, until } = require('../../lib/cases');
const { sleep } = require('../../lib/server');

const NAME = 'agent__blog-writer';

const EVENTS = [
  'added', 'waiting', 'active', 'completed', 'failed', 'delayed', 'progress', 'removed', 'drained', 'paused', 'resumed',
  'stalled', 'deduplicated', 'duplicated', 'retries-exhausted', 'waiting-children', 'cleaned',
];

/** Records every event as `[name, arguments]`, in order. */
async function record(t, options) {
  const events = await t.events(NAME, options);
  const log = [];
  for (const name of EVENTS) events.on(name, (args) => log.push([name, args]));
  // The stream is read from `$`: what happens before the first XREAD stands at the server would be missed.
  await until('XREAD waits at the server', async () => (await t.redis.client('LIST')).includes('cmd=xread'));
  return log;
}

const names = (log) => log.map(([name]) => name);

test('events: the life of one job, in order', async (t) => {
  const queue = t.queue(NAME);
  await queue.waitUntilReady();
  const log = await record(t);
  const worker = t.worker(NAME, async (job) => {
    await job.updateProgress(50);
    return { words: 800 };
  });
  const job = await queue.add('write', {});
  await until('completed and drained are told', () => names(log).includes('completed') && names(log).includes('drained'));
  assert.deepEqual(names(log), ['added', 'waiting', 'active', 'progress', 'completed', 'drained']);
  const told = Object.fromEntries(log);
  assert.equal(told.added.jobId, job.id);
  assert.equal(told.added.name, 'write');
  assert.equal(told.active.prev, 'waiting');
  assert.equal(told.progress.data, 50);
  assert.deepEqual(told.completed.returnvalue, { words: 800 });
  await worker.close();
});

test('events: failed, retries-exhausted, delayed, removed, duplicated', async (t) => {
  const queue = t.queue(NAME);
  await queue.waitUntilReady();
  const log = await record(t);
  t.worker(NAME, async () => {
    throw new Error('no');
  });
  await queue.add('write', {}, { attempts: 2, backoff: 50, jobId: 'post-1' });
  await queue.add('write', {}, { jobId: 'post-1' });
  await until('retries are exhausted', () => names(log).includes('retries-exhausted'));
  await queue.remove('post-1');
  await until('removal is told', () => names(log).includes('removed'));
  const told = Object.fromEntries(log);
  assert.equal(told.failed.failedReason, 'no');
  assert.equal(told['retries-exhausted'].attemptsMade, '2');
  assert.equal(told.duplicated.jobId, 'post-1');
  assert.equal(told.removed.jobId, 'post-1');
  assert.equal(told.removed.prev, 'failed');
  assert.ok(Number(told.delayed.delay) > Date.now() - 10_000);
});

test('events: paused, resumed, cleaned, waiting-children', async (t) => {
  const queue = t.queue(NAME);
  await queue.waitUntilReady();
  const log = await record(t);
  await queue.pause();
  await queue.resume();
  await t.flow().add({ name: 'parent', queueName: NAME, children: [{ name: 'child', queueName: 'rag__ingestion' }] });
  await queue.add('a', {}, { delay: 60_000 });
  await sleep(5);
  await queue.clean(0, 10, 'delayed');
  await until('cleaned is told', () => names(log).includes('cleaned'));
  assert.equal(Object.fromEntries(log).cleaned.count, '1');
  for (const name of ['paused', 'resumed', 'waiting-children']) assert.ok(names(log).includes(name), name);
});

test('events: a late listener replays from id 0; the stream is trimmed', async (t) => {
  const queue = t.queue(NAME, { streams: { events: { maxLen: 50 } } });
  await until('the queue wrote its length', () => t.redis.hexists(`bull:${NAME}:meta`, 'opts.maxLenEvents'));
  await queue.addBulk(Array.from({ length: 400 }, (_, n) => ({ name: 'write', data: { n } })));
  const length = () => t.redis.xlen(`bull:${NAME}:events`);
  const kept = await length();
  assert.ok(kept >= 50 && kept < 400, `the stream keeps ${kept}`);
  await queue.trimEvents(10);
  assert.ok((await length()) >= 10 && (await length()) <= kept, `trimmed to ${await length()}`);
  const events = await t.events(NAME, { lastEventId: '0' });
  const told = [];
  events.on('waiting', ({ jobId }) => told.push(jobId));
  await until('the newest is told', () => told.includes('400'));
});

test('events: waitUntilFinished answers results, failures and time-outs', async (t) => {
  const queue = t.queue(NAME);
  const events = await t.events(NAME);
  t.worker(NAME, async (job) => {
    if (job.data.fail) throw new Error('as asked');
    await sleep(job.data.ms);
    return job.data.ms;
  }, { concurrency: 3 });
  const [quick, slow, bad] = await queue.addBulk([
    { name: 'quick', data: { ms: 20 } },
    { name: 'slow', data: { ms: 3000 } },
    { name: 'bad', data: { fail: true } },
  ]);
  assert.equal(await quick.waitUntilFinished(events), 20);
  await assert.rejects(bad.waitUntilFinished(events), /as asked/);
  await assert.rejects(slow.waitUntilFinished(events, 150), /timed out/);
  assert.equal(await quick.waitUntilFinished(events), 20, 'a job that is long done');
});

test('events: a worker tells active, progress, completed, failed, drained', async (t) => {
  const queue = t.queue(NAME);
  const told = [];
  const worker = t.worker(NAME, async (job) => {
    await job.updateProgress({ percent: 30, step: 'draft' });
    if (job.name === 'bad') throw new Error('bad');
    return 1;
  });
  for (const name of ['active', 'progress', 'completed', 'failed', 'drained']) worker.on(name, () => told.push(name));
  await queue.add('good', {});
  await queue.add('bad', {});
  await until('both ended', () => told.includes('failed') && told.includes('drained'));
  assert.deepEqual(told.filter((name) => name !== 'drained'), ['active', 'progress', 'completed', 'active', 'progress', 'failed']);
});

test('progress: numbers and objects are kept with the job', async (t) => {
  const queue = t.queue(NAME);
  const job = await queue.add('write', {});
  await job.updateProgress(42);
  assert.equal((await queue.getJob(job.id)).progress, 42);
  await job.updateProgress({ step: 'draft', done: [1, 2] });
  assert.deepEqual((await queue.getJob(job.id)).progress, { step: 'draft', done: [1, 2] });
  await queue.updateJobProgress(job.id, 99.5);
  assert.equal((await queue.getJob(job.id)).progress, 99.5);
  await job.updateData({ text: 'new' });
  assert.deepEqual((await queue.getJob(job.id)).data, { text: 'new' });
  await job.remove();
  await assert.rejects(job.updateProgress(1), /Missing key for job/);
});

test('logs: added, read in ranges, kept to a number, cleared', async (t) => {
  const queue = t.queue(NAME);
  const job = await queue.add('write', {});
  for (let n = 1; n <= 5; n += 1) assert.equal(await job.log(`line ${n}`), n);
  assert.deepEqual(await queue.getJobLogs(job.id, 1, 2), { logs: ['line 2', 'line 3'], count: 5 });
  assert.deepEqual((await queue.getJobLogs(job.id, 0, 1, false)).logs, ['line 5', 'line 4']);
  await job.clearLogs(2);
  assert.deepEqual((await queue.getJobLogs(job.id)).logs, ['line 4', 'line 5']);
  await job.clearLogs();
  assert.equal((await queue.getJobLogs(job.id)).count, 0);
  const capped = await queue.add('write', {}, { keepLogs: 3 });
  for (let n = 1; n <= 6; n += 1) await capped.log(`line ${n}`);
  assert.deepEqual((await queue.getJobLogs(capped.id)).logs, ['line 4', 'line 5', 'line 6']);
});
