'use strict';
// Getters, workers and clients, metrics, deduplication.

const assert = require('node:assert/strict');
const { test, until, signal } = require('../../lib/cases');
const { sleep } = require('../../lib/server');
const { version } = require('../context');

const NAME = 'rag__ingestion';

test('getters: every state, counts, ranges in both directions', async (t) => {
  const queue = t.queue(NAME);
  const asked = signal();
  const worker = t.worker(NAME, async (job) => {
    if (job.name === 'bad') throw new Error('bad');
    if (job.name === 'long') await asked.promise;
    return job.name;
  }, { concurrency: 1 });
  for (const name of ['one', 'bad', 'two', 'long']) await queue.add(name, { name });
  await until('the long one runs', async () => (await queue.getActiveCount()) === 1 && (await queue.getCompletedCount()) === 2);
  await queue.addBulk([
    { name: 'w1', data: {} },
    { name: 'w2', data: {} },
    { name: 'd1', data: {}, opts: { delay: 60_000 } },
    { name: 'p2', data: {}, opts: { priority: 2 } },
    { name: 'p1', data: {}, opts: { priority: 1 } },
  ]);
  const named = (jobs) => jobs.map((job) => job.name);
  assert.deepEqual(named(await queue.getWaiting()), ['w1', 'w2']);
  assert.deepEqual(named(await queue.getActive()), ['long']);
  assert.deepEqual(named(await queue.getDelayed()), ['d1']);
  assert.deepEqual(named(await queue.getPrioritized()), ['p1', 'p2']);
  assert.deepEqual(named(await queue.getFailed()), ['bad']);
  assert.deepEqual(named(await queue.getCompleted()), ['two', 'one']);
  assert.deepEqual(named(await queue.getJobs(['completed'], 0, 0, true)), ['one']);
  assert.deepEqual(named(await queue.getJobs(['wait', 'delayed'], 0, -1, true)).sort(), ['d1', 'w1', 'w2']);
  const counts = await t.counts(queue, 'active', 'completed', 'delayed', 'failed', 'prioritized', 'waiting', 'waiting-children');
  assert.deepEqual(counts, { active: 1, completed: 2, delayed: 1, failed: 1, prioritized: 2, waiting: 2, 'waiting-children': 0 });
  assert.equal(await queue.count(), 5);
  assert.equal(await queue.getJobState('1'), 'completed');
  assert.equal(await queue.getJobState('nobody'), 'unknown');
  assert.equal(await queue.getJob('nobody'), undefined);
  const text = await queue.exportPrometheusMetrics();
  assert.match(text, /bullmq_job_count\{queue="rag__ingestion", state="delayed"\} 1/);
  asked.resolve();
  await worker.close();
});

test('getters: 50 pages of 20 waiting jobs', async (t) => {
  const queue = t.queue(NAME);
  await queue.addBulk(Array.from({ length: 1000 }, (_, n) => ({ name: 'parse', data: { n } })));
  const seen = [];
  for (let page = 0; page < 50; page += 1) {
    const jobs = await queue.getJobs(['waiting'], page * 20, page * 20 + 19, true);
    seen.push(...jobs.map((job) => job.data.n));
  }
  assert.deepEqual(seen, Array.from({ length: 1000 }, (_, n) => n));
});

test('getters: getWorkers and getQueueEvents read CLIENT LIST', async (t) => {
  const queue = t.queue(NAME);
  const first = t.worker(NAME, async () => {}, { name: 'indexer' });
  const second = t.worker(NAME, async () => {});
  const other = t.worker('agent__blog-writer', async () => {});
  await t.events(NAME);
  await Promise.all([first, second, other].map((worker) => worker.waitUntilReady()));
  await until('two workers are listed', async () => (await queue.getWorkersCount()) === 2);
  const workers = await queue.getWorkers();
  assert.equal(workers.length, 2);
  for (const worker of workers) {
    assert.match(worker.addr, /^127\.0\.0\.1:\d+$/);
    assert.ok(Number(worker.id) > 0);
    assert.equal(worker.name, NAME);
  }
  assert.ok(workers.some((worker) => worker.rawname.endsWith(':w:indexer')));
  assert.equal((await queue.getQueueEvents()).length, 1);
  await first.close();
  await until('one worker is listed', async () => (await queue.getWorkersCount()) === 1);
});

test('getters: version, meta, server facts', async (t) => {
  const queue = t.queue(NAME);
  await queue.waitUntilReady();
  assert.match(await queue.getVersion(), new RegExp(`^bullmq:${version}\\.`));
  const meta = await queue.getMeta();
  assert.match(meta.version, new RegExp(`^bullmq:${version}\\.`));
  const info = await t.redis.info();
  assert.match(info, /\r\nredis_version:7\.\d+\.\d+\r\n/);
  assert.match(info, /\r\nmaxmemory_policy:noeviction\r\n/);
  for (const foreign of ['dragonfly_version:', 'valkey_version:', 'server:Valkey', 'server:Dragonfly']) {
    assert.ok(!info.includes(foreign), foreign);
  }
});

test('metrics: finished jobs are counted, and gathered by the minute', async (t) => {
  const queue = t.queue(NAME);
  t.worker(NAME, async (job) => {
    if (job.data.n % 4 === 0) throw new Error('fourth');
  }, { metrics: { maxDataPoints: 60 } });
  const add = (count) => queue.addBulk(Array.from({ length: count }, (_, n) => ({ name: 'parse', data: { n } })));
  const ended = async () => (await queue.getCompletedCount()) + (await queue.getFailedCount());
  await add(20);
  await until('twenty ended', async () => (await ended()) === 20);
  assert.equal((await queue.getMetrics('completed')).meta.count, 15);
  assert.equal((await queue.getMetrics('failed')).meta.count, 5);
  // Three minutes pass: the hash remembers when the last point was written.
  await t.redis.hincrby(`bull:${NAME}:metrics:completed`, 'prevTS', -180_000);
  await add(2);
  await until('two more ended', async () => (await ended()) === 22);
  const { data, count } = await queue.getMetrics('completed');
  assert.ok(count >= 3, `${count} data points`);
  assert.ok(data.map(Number).some((points) => points > 0), `data ${data}`);
});

test('deduplication: while the first job is not finished', async (t) => {
  const queue = t.queue(NAME);
  const events = await t.events(NAME);
  const told = [];
  events.on('deduplicated', (args) => told.push(args));
  await until('XREAD waits at the server', async () => (await t.redis.client('LIST')).includes('cmd=xread'));
  const first = await queue.add('parse', { v: 1 }, { deduplication: { id: 'doc-1' } });
  const second = await queue.add('parse', { v: 2 }, { deduplication: { id: 'doc-1' } });
  assert.equal(second.id, first.id);
  assert.equal(await queue.count(), 1);
  assert.equal(await queue.getDeduplicationJobId('doc-1'), first.id);
  await until('it is told', () => told.length === 1);
  assert.equal(told[0].deduplicationId, 'doc-1');
  assert.equal(told[0].jobId, first.id);
  t.worker(NAME, async (job) => job.data.v);
  await until('the first is done', () => first.isCompleted());
  const third = await queue.add('parse', { v: 3 }, { deduplication: { id: 'doc-1' } });
  assert.notEqual(third.id, first.id);
});

test('deduplication: throttle for a time', async (t) => {
  const queue = t.queue(NAME);
  t.worker(NAME, async () => 'ok');
  const add = (v) => queue.add('parse', { v }, { deduplication: { id: 'doc-2', ttl: 60_000 } });
  const first = await add(1);
  await until('the first is done', () => first.isCompleted());
  assert.equal((await add(2)).id, first.id, 'still throttled');
  const ttl = await t.redis.pttl(`bull:${NAME}:de:doc-2`);
  assert.ok(ttl > 0 && ttl <= 60_000, `ttl ${ttl}`);
  await t.redis.pexpire(`bull:${NAME}:de:doc-2`, 20);
  await sleep(50);
  assert.notEqual((await add(3)).id, first.id);
});

test('deduplication: debounce keeps the last data and starts the delay again', async (t) => {
  const queue = t.queue(NAME);
  const ran = [];
  t.worker(NAME, async (job) => void ran.push({ v: job.data.v, at: Date.now() }));
  let last;
  for (let v = 1; v <= 4; v += 1) {
    last = Date.now();
    await queue.add('parse', { v }, { delay: 1500, deduplication: { id: 'doc-3', ttl: 1500, extend: true, replace: true } });
    await sleep(50);
  }
  await until('one ran', () => ran.length > 0);
  await sleep(300);
  assert.deepEqual(ran.map((one) => one.v), [4]);
  assert.ok(ran[0].at - last >= 1498, `ran ${ran[0].at - last} ms after the last`);
});

test('deduplication: the key is removed by hand', async (t) => {
  const queue = t.queue(NAME);
  const first = await queue.add('parse', {}, { deduplication: { id: 'doc-4', ttl: 60_000 } });
  assert.equal(await queue.removeDeduplicationKey('doc-4'), 1);
  const second = await queue.add('parse', {}, { deduplication: { id: 'doc-4', ttl: 60_000 } });
  assert.notEqual(second.id, first.id);
  assert.equal(await second.removeDeduplicationKey(), true);
  assert.equal(await queue.getDeduplicationJobId('doc-4'), null);
});
