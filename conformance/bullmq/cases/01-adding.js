'use strict';
// add, addBulk, delayed, priority, LIFO: what is added, in which order it is processed.

const assert = require('node:assert/strict');
const { test, until } = require('../../lib/cases');
const { sleep } = require('../../lib/server');

const QUEUES = ['agent__blog-writer', 'rag__ingestion', 'notifications__email'];

test('add: a job of each platform queue is processed and its result kept', async (t) => {
  for (const name of QUEUES) {
    const queue = t.queue(name);
    const events = await t.events(name);
    t.worker(name, async (job) => ({ echo: job.data.text, by: job.name }));
    const job = await queue.add('write', { text: `for ${name}`, nested: { list: [1, 2.5, null, 'ü☃'] } });
    const result = await job.waitUntilFinished(events, 60_000);
    assert.deepEqual(result, { echo: `for ${name}`, by: 'write' });
    const stored = await queue.getJob(job.id);
    assert.deepEqual(stored.data, { text: `for ${name}`, nested: { list: [1, 2.5, null, 'ü☃'] } });
    assert.deepEqual(stored.returnvalue, result);
    assert.equal(await stored.getState(), 'completed');
    assert.equal(stored.attemptsMade, 1);
    assert.ok(stored.finishedOn >= stored.processedOn && stored.processedOn >= stored.timestamp);
  }
});

test('add: ids count up from 1; a custom id is used once', async (t) => {
  const queue = t.queue('agent__blog-writer');
  assert.equal((await queue.add('a', {})).id, '1');
  assert.equal((await queue.add('b', {})).id, '2');
  assert.equal((await queue.add('c', { first: true }, { jobId: 'post-7' })).id, 'post-7');
  assert.equal((await queue.add('d', { second: true }, { jobId: 'post-7' })).id, 'post-7');
  assert.equal(await queue.getWaitingCount(), 3);
  const stored = await queue.getJob('post-7');
  assert.equal(stored.name, 'c');
  assert.deepEqual(stored.data, { first: true });
  assert.equal((await queue.add('e', {})).id, '5');
});

test('add: the raw keys are a list, a hash and an event stream', async (t) => {
  const queue = t.queue('rag__ingestion');
  await queue.add('parse', { page: 1 }, { attempts: 3 });
  assert.deepEqual(await t.redis.lrange('bull:rag__ingestion:wait', 0, -1), ['1']);
  const hash = await t.redis.hgetall('bull:rag__ingestion:1');
  assert.equal(hash.name, 'parse');
  assert.equal(hash.data, '{"page":1}');
  assert.equal(JSON.parse(hash.opts).attempts, 3);
  assert.equal(hash.priority, '0');
  assert.equal(await t.redis.type('bull:rag__ingestion:events'), 'stream');
  assert.equal(await t.redis.type('bull:rag__ingestion:meta'), 'hash');
  assert.deepEqual(await t.redis.zrange('bull:rag__ingestion:marker', 0, -1, 'WITHSCORES'), ['0', '0']);
});

test('add: one megabyte of data comes back unchanged', async (t) => {
  const queue = t.queue('rag__ingestion');
  const events = await t.events('rag__ingestion');
  const text = 'añ€🙂"\\\n'.repeat(100_000);
  t.worker('rag__ingestion', async (job) => job.data.text.length);
  const job = await queue.add('chunk', { text });
  assert.equal(await job.waitUntilFinished(events, 10_000), text.length);
  assert.equal((await queue.getJob(job.id)).data.text, text);
});

test('add: a job over its sizeLimit is refused', async (t) => {
  const queue = t.queue('rag__ingestion');
  await assert.rejects(queue.add('chunk', { text: 'x'.repeat(200) }, { sizeLimit: 100 }), /exceeds the limit 100 bytes/);
  assert.equal(await queue.count(), 0);
});

test('addBulk: 500 jobs run once each, in order', async (t) => {
  const queue = t.queue('notifications__email');
  const jobs = Array.from({ length: 500 }, (_, n) => ({ name: 'mail', data: { n } }));
  const added = await queue.addBulk(jobs);
  assert.deepEqual(added.map((job) => job.id), jobs.map((_, n) => String(n + 1)));
  assert.equal((await queue.getJobCounts('waiting')).waiting, 500);
  const seen = [];
  t.worker('notifications__email', async (job) => void seen.push(job.data.n));
  await until('500 jobs are done', async () => (await queue.getCompletedCount()) === 500);
  assert.deepEqual(seen, jobs.map((job) => job.data.n));
});

test('addBulk: mixed options reach the states they ask for', async (t) => {
  const queue = t.queue('notifications__email');
  await queue.addBulk([
    { name: 'now', data: {} },
    { name: 'later', data: {}, opts: { delay: 60_000 } },
    { name: 'urgent', data: {}, opts: { priority: 1 } },
    { name: 'own id', data: {}, opts: { jobId: 'mail-1' } },
  ]);
  const counts = await queue.getJobCounts();
  assert.equal(counts.waiting, 2);
  assert.equal(counts.delayed, 1);
  assert.equal(counts.prioritized, 1);
  assert.equal(await queue.getJobState('mail-1'), 'waiting');
});

test('delayed: jobs run when they are due, in due order', async (t) => {
  const queue = t.queue('notifications__email');
  const began = Date.now();
  const ran = [];
  t.worker('notifications__email', async (job) => void ran.push({ delay: job.opts.delay, after: Date.now() - began }), { drainDelay: 30 });
  for (const delay of [600, 200, 400]) await queue.add('reminder', {}, { delay });
  assert.equal(await queue.getDelayedCount(), 3);
  await until('three delayed jobs ran', () => ran.length === 3);
  assert.deepEqual(ran.map((one) => one.delay), [200, 400, 600]);
  for (const one of ran) {
    assert.ok(one.after >= one.delay - 1, `delay ${one.delay} ran after ${one.after} ms`);
    // The worker looks by itself after 30 s.
    assert.ok(one.after < one.delay + 10_000, `delay ${one.delay} ran only after ${one.after} ms`);
  }
});

test('delayed: scores carry milliseconds and a counter, exactly', async (t) => {
  const queue = t.queue('notifications__email');
  const timestamp = 1_790_000_000_123;
  for (let n = 0; n < 3; n += 1) await queue.add('reminder', {}, { delay: 86_400_000, timestamp });
  const scores = (await t.redis.zrange('bull:notifications__email:delayed', 0, -1, 'WITHSCORES')).filter((_, n) => n % 2);
  const due = BigInt(timestamp + 86_400_000) * 4096n;
  assert.deepEqual(scores, [0n, 1n, 2n].map((n) => String(due + n)));
});

test('delayed: promote, changeDelay and promoteJobs', async (t) => {
  const queue = t.queue('notifications__email');
  const first = await queue.add('a', {}, { delay: 60_000 });
  const second = await queue.add('b', {}, { delay: 60_000 });
  await queue.add('c', {}, { delay: 60_000 });
  await first.promote();
  assert.equal(await first.getState(), 'waiting');
  const ran = [];
  t.worker('notifications__email', async (job) => void ran.push(job.name));
  await until('the promoted job ran', () => ran.includes('a'));
  await second.changeDelay(200);
  await until('the hastened job ran', () => ran.includes('b'));
  assert.equal(await queue.getDelayedCount(), 1);
  await queue.promoteJobs();
  await until('all are promoted', () => ran.includes('c'));
  await assert.rejects(first.promote(), /is not in the delayed state|Missing key/i);
});

test('delayed: a job added while the worker sleeps on an empty queue wakes it in time', async (t) => {
  const queue = t.queue('notifications__email');
  const ran = [];
  t.worker('notifications__email', async () => void ran.push(Date.now()), { drainDelay: 30 });
  await sleep(300);
  const began = Date.now();
  await queue.add('soon', {}, { delay: 150 });
  await until('the delayed job ran', () => ran.length === 1);
  assert.ok(ran[0] - began >= 149 && ran[0] - began < 10_000, `ran after ${ran[0] - began} ms`);
});

test('priority: lower number first, arrival order within one number, none before all', async (t) => {
  const queue = t.queue('agent__blog-writer');
  const add = (name, priority) => queue.add(name, {}, priority ? { priority } : {});
  for (const [name, priority] of [['p3a', 3], ['p1a', 1], ['p2a', 2], ['p1b', 1], ['p3b', 3], ['plain', 0], ['p2097151', 2_097_151]]) {
    await add(name, priority);
  }
  assert.deepEqual(await queue.getCountsPerPriority([0, 1, 2, 3]), { 0: 1, 1: 2, 2: 1, 3: 2 });
  const seen = [];
  t.worker('agent__blog-writer', async (job) => void seen.push(job.name));
  await until('seven jobs ran', () => seen.length === 7);
  assert.deepEqual(seen, ['plain', 'p1a', 'p1b', 'p2a', 'p3a', 'p3b', 'p2097151']);
  await assert.rejects(add('too low', 2_097_152), /Priority should be between 0 and 2097151/);
});

test('priority: changePriority moves a waiting job', async (t) => {
  const queue = t.queue('agent__blog-writer');
  const low = await queue.add('low', {}, { priority: 10 });
  await queue.add('high', {}, { priority: 2 });
  const plain = await queue.add('plain', {});
  await low.changePriority({ priority: 1 });
  await plain.changePriority({ priority: 5 });
  assert.equal((await queue.getJob(low.id)).priority, 1);
  const seen = [];
  t.worker('agent__blog-writer', async (job) => void seen.push(job.name));
  await until('three jobs ran', () => seen.length === 3);
  assert.deepEqual(seen, ['low', 'high', 'plain']);
});

test('LIFO: the newest job runs first', async (t) => {
  const queue = t.queue('agent__blog-writer');
  for (const name of ['one', 'two', 'three']) await queue.add(name, {}, { lifo: true });
  await queue.add('last', {});
  const seen = [];
  t.worker('agent__blog-writer', async (job) => void seen.push(job.name));
  await until('four jobs ran', () => seen.length === 4);
  assert.deepEqual(seen, ['three', 'two', 'one', 'last']);
});

test('worker: an idle worker starts a new job within moments', async (t) => {
  const queue = t.queue('agent__blog-writer');
  const latencies = [];
  t.worker('agent__blog-writer', async (job) => void latencies.push(Date.now() - job.data.at), { drainDelay: 30 });
  for (let n = 1; n <= 20; n += 1) {
    await sleep(20);
    await queue.add('ping', { at: Date.now() });
    await until('the job ran', () => latencies.length === n);
  }
  latencies.sort((a, b) => a - b);
  // A worker that is not woken looks by itself after 30 s.
  assert.ok(latencies[10] < 5000, `median latency ${latencies[10]} ms`);
});
