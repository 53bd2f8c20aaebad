'use strict';
// Pause and resume, drain, clean, obliterate, removal of finished jobs by count and by age.

const assert = require('node:assert/strict');
const { test, until } = require('../../lib/cases');
const { sleep } = require('../../lib/server');

const NAME = 'notifications__email';
const DAY_S = 24 * 60 * 60;

const bulk = (count, opts) => Array.from({ length: count }, (_, n) => ({ name: 'mail', data: { n }, opts }));

test('pause: a paused queue starts nothing, of any kind, until resumed', async (t) => {
  const queue = t.queue(NAME);
  const ran = [];
  const worker = t.worker(NAME, async (job) => void ran.push(job.name));
  await worker.waitUntilReady();
  await queue.pause();
  assert.equal(await queue.isPaused(), true);
  await queue.add('plain', {});
  await queue.add('urgent', {}, { priority: 1 });
  await queue.add('delayed', {}, { delay: 50 });
  await sleep(500);
  assert.deepEqual(ran, []);
  assert.equal(await queue.count(), 3);
  await queue.resume();
  assert.equal(await queue.isPaused(), false);
  await until('all three ran', () => ran.length === 3);
});

test('pause: the job that runs ends; a second queue is not touched', async (t) => {
  const queue = t.queue(NAME);
  const other = t.queue('rag__ingestion');
  const ended = [];
  const worker = t.worker(NAME, async (job) => {
    await sleep(200);
    ended.push(job.id);
  });
  t.worker('rag__ingestion', async () => 'other');
  await queue.add('mail', {});
  await until('it is active', async () => (await queue.getActiveCount()) === 1);
  await queue.pause();
  await queue.add('mail', {});
  const elsewhere = await other.add('parse', {});
  await until('the first ended', () => ended.length === 1);
  await until('the other queue goes on', () => elsewhere.isCompleted());
  await sleep(200);
  assert.equal(ended.length, 1);
  await worker.close();
});

test('pause: a worker paused alone leaves jobs to the others', async (t) => {
  const queue = t.queue(NAME);
  const by = [];
  const first = t.worker(NAME, async () => void by.push('first'));
  await first.waitUntilReady();
  await first.pause();
  assert.equal(first.isPaused(), true);
  await queue.add('mail', {});
  await sleep(200);
  assert.deepEqual(by, []);
  t.worker(NAME, async () => void by.push('second'));
  await until('the second ran it', () => by.length === 1);
  assert.deepEqual(by, ['second']);
});

test('drain: waiting jobs go, delayed stay unless asked', async (t) => {
  const queue = t.queue(NAME);
  await queue.addBulk([...bulk(20), ...bulk(5, { priority: 3 }), ...bulk(4, { delay: 60_000 })]);
  await queue.drain();
  assert.deepEqual(await t.counts(queue, 'waiting', 'prioritized', 'delayed'), { waiting: 0, prioritized: 0, delayed: 4 });
  await queue.drain(true);
  assert.equal(await queue.count(), 0);
  assert.deepEqual((await t.keysOf(NAME)).filter((key) => /:\d+$/.test(key)), []);
});

test('drain: 15,000 waiting jobs', async (t) => {
  const queue = t.queue(NAME);
  for (let n = 0; n < 3; n += 1) await queue.addBulk(bulk(5000));
  assert.equal(await queue.getWaitingCount(), 15_000);
  await queue.drain();
  assert.equal(await queue.count(), 0);
});

test('clean: by state, grace and limit', async (t) => {
  const queue = t.queue(NAME);
  t.worker(NAME, async (job) => {
    if (job.data.n % 2) throw new Error('odd');
  });
  await queue.addBulk(bulk(20));
  await until('all ended', async () => (await queue.getCompletedCount()) + (await queue.getFailedCount()) === 20);
  assert.deepEqual(await queue.clean(60_000, 100, 'completed'), []);
  await sleep(5);
  assert.equal((await queue.clean(0, 4, 'completed')).length, 4);
  assert.equal((await queue.clean(0, 0, 'completed')).length, 6);
  assert.equal((await queue.clean(0, 100, 'failed')).length, 10);
  assert.deepEqual(await t.counts(queue, 'completed', 'failed'), { completed: 0, failed: 0 });
});

test('clean: waiting, delayed and prioritized jobs', async (t) => {
  const queue = t.queue(NAME);
  await queue.addBulk([...bulk(6), ...bulk(6, { priority: 2 }), ...bulk(6, { delay: 60_000 })]);
  await sleep(5);
  assert.equal((await queue.clean(0, 100, 'wait')).length, 6);
  assert.equal((await queue.clean(0, 2, 'prioritized')).length, 2);
  assert.equal((await queue.clean(0, 100, 'delayed')).length, 6);
  assert.deepEqual(await t.counts(queue, 'waiting', 'prioritized', 'delayed'), { waiting: 0, prioritized: 4, delayed: 0 });
});

test('clean: 12,000 finished jobs at once', async (t) => {
  const queue = t.queue(NAME);
  for (let n = 0; n < 3; n += 1) await queue.addBulk(bulk(4000));
  // Moved by hand, as a finished job stands: processing 12,000 of them is another case.
  const ids = await t.redis.lrange(`bull:${NAME}:wait`, 0, -1);
  await t.redis.zadd(`bull:${NAME}:completed`, ...ids.flatMap((id, n) => [1_700_000_000_000 + n, id]));
  await t.redis.del(`bull:${NAME}:wait`);
  const cleaned = await queue.clean(0, 12_000, 'completed');
  assert.equal(cleaned.length, 12_000);
  assert.equal(await queue.getCompletedCount(), 0);
});

test('obliterate: nothing of the queue is left', async (t) => {
  const queue = t.queue(NAME);
  const worker = t.worker(NAME, async (job) => {
    await job.log('a line');
    if (job.data.n === 3) throw new Error('three');
  });
  await queue.addBulk(bulk(10));
  await until('all ended', async () => (await queue.getCompletedCount()) + (await queue.getFailedCount()) === 10);
  await worker.close();
  await queue.addBulk([...bulk(3), ...bulk(3, { delay: 60_000 }), ...bulk(3, { priority: 1 })]);
  await queue.upsertJobScheduler('s', { every: 60_000 }, { name: 'mail' });
  await queue.obliterate();
  assert.deepEqual(await t.keysOf(NAME), []);
});

test('obliterate: refused while a job is active, unless forced', async (t) => {
  const queue = t.queue(NAME);
  t.worker(NAME, () => sleep(60_000), { concurrency: 1 });
  await queue.add('mail', {});
  await until('it is active', async () => (await queue.getActiveCount()) === 1);
  await assert.rejects(queue.obliterate(), /Cannot obliterate queue with active jobs/);
  await queue.obliterate({ force: true });
  assert.deepEqual(await t.counts(queue, 'active', 'waiting', 'paused'), { active: 0, waiting: 0, paused: 0 });
});

test('removeOnComplete: true, and by count', async (t) => {
  const queue = t.queue(NAME);
  let runs = 0;
  // Jobs that end in the same millisecond are kept in the order of their ids' letters.
  t.worker(NAME, async () => {
    await sleep(2);
    runs += 1;
  });
  await queue.addBulk(bulk(5, { removeOnComplete: true }));
  await until('five ran', async () => runs === 5 && (await queue.getActiveCount()) === 0);
  assert.equal(await queue.getCompletedCount(), 0);
  assert.deepEqual((await t.keysOf(NAME)).filter((key) => /:\d+$/.test(key)), []);
  await queue.addBulk(bulk(12, { removeOnComplete: 3 }));
  await until('all ran', async () => runs === 17 && (await queue.getActiveCount()) === 0);
  assert.deepEqual((await queue.getCompleted()).map((job) => job.id), ['17', '16', '15']);
});

/** Makes a finished job `seconds` older, where BullMQ looks: the score of its set. */
async function age(t, set, id, seconds) {
  const at = Date.now() - seconds * 1000;
  assert.equal(await t.redis.zadd(`bull:${NAME}:${set}`, 'XX', 'CH', at, id), 1);
}

test('removeOnComplete: completed jobs go after 24 hours', async (t) => {
  const queue = t.queue(NAME, { defaultJobOptions: { removeOnComplete: { age: DAY_S, count: 1000 } } });
  t.worker(NAME, async () => 'sent');
  await queue.addBulk(bulk(4));
  await until('four are done', async () => (await queue.getCompletedCount()) === 4);
  await age(t, 'completed', '1', DAY_S + 60);
  await age(t, 'completed', '2', DAY_S - 60);
  await age(t, 'completed', '3', 30 * DAY_S);
  await queue.add('mail', {});
  await until('the fifth is done', async () => (await queue.getJobState('5')) === 'completed');
  assert.deepEqual((await queue.getCompleted()).map((job) => job.id).sort(), ['2', '4', '5']);
  assert.equal(await queue.getJob('1'), undefined);
});

test('removeOnFail: failed jobs go after 7 days', async (t) => {
  const queue = t.queue(NAME, { defaultJobOptions: { removeOnFail: { age: 7 * DAY_S } } });
  t.worker(NAME, async () => {
    throw new Error('bounced');
  });
  await queue.addBulk(bulk(3));
  await until('three failed', async () => (await queue.getFailedCount()) === 3);
  await age(t, 'failed', '1', 7 * DAY_S + 60);
  await age(t, 'failed', '2', 7 * DAY_S - 60);
  await queue.add('mail', {});
  await until('the fourth failed', async () => (await queue.getJobState('4')) === 'failed');
  assert.deepEqual((await queue.getFailed()).map((job) => job.id).sort(), ['2', '3', '4']);
});

test('removeOnComplete: an age of one second, by the clock', async (t) => {
  const queue = t.queue(NAME);
  t.worker(NAME, async () => 'sent', { removeOnComplete: { age: 1 } });
  await queue.addBulk(bulk(3));
  await until('three are done', async () => (await queue.getCompletedCount()) === 3);
  await sleep(1300);
  await queue.add('mail', {});
  await until('only the newest is left', async () => (await queue.getCompleted()).map((job) => job.id).join() === '4');
});
