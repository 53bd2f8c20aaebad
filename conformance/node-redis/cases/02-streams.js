'use strict';
// Streams: logs that are trimmed, readers that wait, consumer groups that share and take over.

const assert = require('node:assert/strict');
const { test, until } = require('../../lib/cases');
const { sleep } = require('../../lib/server');

const messages = (reply) => (reply || []).map(({ name, messages: list }) => [name, list.map(({ id, message }) => [id, { ...message }])]);

test('streams: add with options, range, trim, delete, information', async (t) => {
  assert.equal(await t.redis.xAdd('log', '1-1', { level: 'info', text: 'first' }), '1-1');
  assert.equal(await t.redis.xAdd('log', '1-*', { level: 'warn' }), '1-2');
  await assert.rejects(t.redis.xAdd('log', '1-1', { a: 'b' }), /equal or smaller than the target stream top item/);
  assert.equal(await t.redis.xAddNoMkStream('none', '*', { a: 'b' }), null);
  for (let n = 2; n <= 20; n += 1) await t.redis.xAdd('log', `${n}-0`, { n: String(n) });
  assert.equal(await t.redis.xLen('log'), 21);
  assert.deepEqual((await t.redis.xRange('log', '-', '+', { COUNT: 2 })).map(({ id, message }) => [id, { ...message }]), [
    ['1-1', { level: 'info', text: 'first' }],
    ['1-2', { level: 'warn' }],
  ]);
  assert.deepEqual((await t.redis.xRange('log', '(19-0', '+')).map(({ id }) => id), ['20-0']);
  assert.deepEqual((await t.redis.xRevRange('log', '+', '18')).map(({ id }) => id), ['20-0', '19-0', '18-0']);
  assert.equal(await t.redis.xDel('log', ['3-0', '3-1']), 1);
  assert.equal(await t.redis.xTrim('log', 'MAXLEN', 10), 10);
  assert.equal(await t.redis.xTrim('log', 'MINID', '15-0'), 4);
  await t.redis.xAdd('log', '21-0', { a: 'b' }, { TRIM: { strategy: 'MAXLEN', strategyModifier: '=', threshold: 3 } });
  assert.deepEqual((await t.redis.xRange('log', '-', '+')).map(({ id }) => id), ['19-0', '20-0', '21-0']);
  const info = await t.redis.xInfoStream('log');
  assert.equal(info.length, 3);
  assert.equal(info.groups, 0);
  assert.equal(info['last-generated-id'], '21-0');
  assert.equal(info['max-deleted-entry-id'], '3-0');
  assert.equal(info['entries-added'], 22);
  assert.equal(info['first-entry'].id, '19-0');
  assert.equal(await t.redis.xSetId('log', '30-0'), 'OK');
});

test('streams: a reader that waits gets what comes, and null when nothing does', async (t) => {
  const reader = await t.connect();
  assert.equal(await reader.xRead({ key: 'news', id: '$' }, { BLOCK: 30 }), null);
  const waiting = reader.xRead([{ key: 'news', id: '$' }, { key: 'other', id: '0' }], { BLOCK: 5000, COUNT: 10 });
  await until('it waits', async () => /blocked_clients:1/.test(await t.redis.info('clients')));
  await t.redis.xAdd('news', '5-5', { title: 'x' });
  assert.deepEqual(messages(await waiting), [['news', [['5-5', { title: 'x' }]]]]);
  await t.redis.xAdd('other', '1-0', { a: 'b' });
  assert.deepEqual(messages(await t.redis.xRead([{ key: 'news', id: '0' }, { key: 'other', id: '0' }])), [
    ['news', [['5-5', { title: 'x' }]]],
    ['other', [['1-0', { a: 'b' }]]],
  ]);
  assert.equal(await t.redis.xRead({ key: 'news', id: '5-5' }), null);
});

test('streams: a group shares entries between its consumers', async (t) => {
  assert.equal(await t.redis.xGroupCreate('jobs', 'workers', '$', { MKSTREAM: true }), 'OK');
  await assert.rejects(t.redis.xGroupCreate('jobs', 'workers', '$'), /BUSYGROUP Consumer Group name already exists/);
  await assert.rejects(t.redis.xReadGroup('nobody', 'c', { key: 'jobs', id: '>' }), /NOGROUP/);
  for (let n = 1; n <= 6; n += 1) await t.redis.xAdd('jobs', `${n}-0`, { job: String(n) });
  const take = async (consumer, id = '>', options = {}) => messages(await t.redis.xReadGroup('workers', consumer, { key: 'jobs', id }, options));
  assert.deepEqual((await take('ann', '>', { COUNT: 2 }))[0][1].map(([id]) => id), ['1-0', '2-0']);
  assert.deepEqual((await take('bob', '>', { COUNT: 3 }))[0][1].map(([id]) => id), ['3-0', '4-0', '5-0']);
  assert.equal(await t.redis.xAck('jobs', 'workers', ['1-0', '9-0']), 1);
  assert.deepEqual(await take('ann', '0'), [['jobs', [['2-0', { job: '2' }]]]]);
  const pending = await t.redis.xPending('jobs', 'workers');
  assert.equal(pending.pending, 4);
  assert.equal(pending.firstId, '2-0');
  assert.equal(pending.lastId, '5-0');
  assert.deepEqual(pending.consumers.map(({ name, deliveriesCounter }) => [name, Number(deliveriesCounter)]), [['ann', 1], ['bob', 3]]);
  await sleep(20);
  assert.deepEqual((await t.redis.xPendingRange('jobs', 'workers', '-', '+', 10, { IDLE: 10, consumer: 'bob' })).map(({ id }) => id), ['3-0', '4-0', '5-0']);
  const claimed = await t.redis.xClaim('jobs', 'workers', 'ann', 10, ['3-0']);
  assert.deepEqual(claimed.map(({ id, message }) => [id, { ...message }]), [['3-0', { job: '3' }]]);
  assert.deepEqual(await t.redis.xClaimJustId('jobs', 'workers', 'ann', 0, ['4-0', '99-0']), ['4-0']);
  const auto = await t.redis.xAutoClaim('jobs', 'workers', 'cyd', 0, '0', { COUNT: 2 });
  assert.equal(auto.nextId, '4-0');
  assert.deepEqual(auto.messages.map(({ id }) => id), ['2-0', '3-0']);
  const [group] = await t.redis.xInfoGroups('jobs');
  assert.deepEqual([group.name, group.consumers, group.pending, group['last-delivered-id'], group['entries-read'], group.lag], ['workers', 3, 4, '5-0', 5, 1]);
  const consumers = await t.redis.xInfoConsumers('jobs', 'workers');
  assert.deepEqual(consumers.map(({ name, pending: count }) => [name, count]), [['ann', 1], ['bob', 1], ['cyd', 2]]);
  assert.equal(await t.redis.xGroupDelConsumer('jobs', 'workers', 'cyd'), 2);
  assert.equal(await t.redis.xGroupSetId('jobs', 'workers', '0'), 'OK');
  assert.equal(Number(await t.redis.xGroupDestroy('jobs', 'workers')), 1);
});

test('streams: four workers of a group do 400 jobs, each once, and a stalled one is relieved', async (t) => {
  await t.redis.xGroupCreate('work', 'g', '0', { MKSTREAM: true });
  const done = new Map();
  const stop = { now: false };
  const worker = async (name) => {
    const client = await t.connect();
    let stalls = name === 'w0';
    while (!stop.now) {
      const reply = await client.xReadGroup('g', name, { key: 'work', id: '>' }, { COUNT: 10, BLOCK: 50 });
      const taken = reply ? reply[0].messages : (await client.xAutoClaim('work', 'g', name, 100, '0')).messages;
      if (stalls && reply) {
        // It took ten and died.
        stalls = false;
        return;
      }
      for (const { id, message } of taken) {
        done.set(message.n, (done.get(message.n) || 0) + 1);
        await client.multi().xAck('work', 'g', id).xDel('work', id).exec();
      }
    }
  };
  const workers = ['w0', 'w1', 'w2', 'w3'].map(worker);
  for (let n = 0; n < 400; n += 1) await t.redis.xAdd('work', '*', { n: String(n) });
  await until('all are done', () => done.size === 400);
  stop.now = true;
  await Promise.all(workers);
  assert.ok([...done.values()].every((count) => count === 1));
  assert.equal(await t.redis.xLen('work'), 0);
  assert.equal((await t.redis.xPending('work', 'g')).pending, 0);
});
