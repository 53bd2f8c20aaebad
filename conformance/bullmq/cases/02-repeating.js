'use strict';
// Repeatable jobs (BullMQ 5) and job schedulers (5 and 6).

const assert = require('node:assert/strict');
const { test, until } = require('../../lib/cases');
const { version } = require('../context');

const NAME = 'rag__ingestion';

if (version === '5') {
  test('repeat: every 200 ms, at most 4 times', async (t) => {
    const queue = t.queue(NAME);
    const ran = [];
    t.worker(NAME, async (job) => void ran.push({ at: Date.now(), name: job.name, key: job.repeatJobKey }));
    await queue.add('crawl', { source: 'feed' }, { repeat: { every: 200, limit: 4 } });
    const [repeatable] = await queue.getRepeatableJobs();
    assert.equal(repeatable.name, 'crawl');
    assert.equal(repeatable.every, '200');
    await until('four runs', () => ran.length === 4);
    await until('nothing is left to run', async () => (await queue.count()) === 0);
    assert.equal(ran.length, 4);
    // The first run is at once, the others at multiples of 200 ms or, if there is much else to do, after them.
    const took = ran[3].at - ran[1].at;
    assert.ok(took > 180, `from the second run to the fourth it took ${took} ms`);
  });

  test('repeat: cron pattern, listed and removed', async (t) => {
    const queue = t.queue(NAME);
    await queue.add('hourly', {}, { repeat: { pattern: '0 0 * * * *', tz: 'Europe/Berlin' } });
    await queue.add('daily', {}, { repeat: { pattern: '0 15 3 * * *' } });
    const listed = await queue.getRepeatableJobs(0, -1, true);
    assert.deepEqual(listed.map((one) => one.name).sort(), ['daily', 'hourly']);
    assert.ok(listed[0].next <= listed[1].next);
    assert.equal(await queue.getDelayedCount(), 2);
    assert.equal(await queue.removeRepeatableByKey(listed[0].key), true);
    assert.equal(await queue.removeRepeatableByKey(listed[0].key), false);
    assert.equal((await queue.getRepeatableJobs()).length, 1);
    assert.equal(await queue.getDelayedCount(), 1);
  });
}

test('scheduler: every 150 ms runs the template, up to its limit', async (t) => {
  const queue = t.queue(NAME);
  const ran = [];
  t.worker(NAME, async (job) => void ran.push({ at: Date.now(), name: job.name, data: job.data, attempts: job.opts.attempts }));
  await queue.upsertJobScheduler('nightly', { every: 150, limit: 5 }, { name: 'sync', data: { full: true }, opts: { attempts: 2 } });
  await until('five runs', () => ran.length === 5);
  await until('nothing is left to run', async () => (await queue.count()) === 0);
  assert.equal(ran.length, 5);
  for (const one of ran) assert.deepEqual([one.name, one.data, one.attempts], ['sync', { full: true }, 2]);
});

test('scheduler: cron pattern each second', async (t) => {
  const queue = t.queue(NAME);
  const ran = [];
  t.worker(NAME, async (job) => void ran.push({ at: Date.now(), due: job.opts.prevMillis }));
  const first = await queue.upsertJobScheduler('tick', { pattern: '* * * * * *' }, { name: 'tick' });
  assert.equal(await first.getState(), 'delayed');
  await until('three ticks', () => ran.length >= 3);
  await queue.removeJobScheduler('tick');
  for (const { at, due } of ran) assert.ok(due % 1000 === 0 && at >= due, `due at ${due}, ran at ${at}`);
});

test('scheduler: upsert replaces, never doubles; get, list, count, remove', async (t) => {
  const queue = t.queue(NAME);
  await queue.upsertJobScheduler('a', { every: 60_000 }, { name: 'one', data: { v: 1 } });
  await queue.upsertJobScheduler('a', { every: 90_000 }, { name: 'two', data: { v: 2 } });
  await queue.upsertJobScheduler('b', { pattern: '0 0 4 * * *', tz: 'UTC' }, { name: 'early' });
  assert.equal(await queue.getJobSchedulersCount(), 2);
  const a = await queue.getJobScheduler('a');
  assert.equal(a.name, 'two');
  assert.equal(a.every, 90_000);
  assert.deepEqual(a.template.data, { v: 2 });
  const b = await queue.getJobScheduler('b');
  assert.equal(b.pattern, '0 0 4 * * *');
  assert.equal(b.tz, 'UTC');
  assert.deepEqual((await queue.getJobSchedulers(0, -1, true)).map((one) => one.key).sort(), ['a', 'b']);
  assert.equal(await queue.removeJobScheduler('a'), true);
  assert.equal(await queue.removeJobScheduler('a'), false);
  assert.equal(await queue.getJobScheduler('a'), undefined);
  assert.equal(await queue.getJobSchedulersCount(), 1);
});

test('scheduler: the template changes while its jobs run', async (t) => {
  const queue = t.queue(NAME);
  const ran = [];
  t.worker(NAME, async (job) => void ran.push(job.data.v));
  await queue.upsertJobScheduler('poll', { every: 200 }, { name: 'poll', data: { v: 1 } });
  await until('two old runs', () => ran.length >= 2);
  await queue.upsertJobScheduler('poll', { every: 200 }, { name: 'poll', data: { v: 2 } });
  await until('a new run', () => ran.includes(2));
  await queue.removeJobScheduler('poll');
  assert.deepEqual([...ran].sort(), ran, 'no old template after the new one');
});
