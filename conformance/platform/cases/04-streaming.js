'use strict';
// Pub/sub, streams, scanStream, SCAN's guarantee, MONITOR.

const assert = require('node:assert/strict');
const { test, until } = require('../../lib/cases');

const collect = async (stream) => {
  const all = [];
  for await (const batch of stream) all.push(...batch);
  return all;
};

test('pub/sub: channels, patterns, counts', async (t) => {
  const subscriber = t.connect();
  const heard = [];
  subscriber.on('message', (channel, text) => heard.push(`${channel}=${text}`));
  subscriber.on('pmessage', (pattern, channel, text) => heard.push(`${pattern}/${channel}=${text}`));
  assert.equal(await subscriber.subscribe('jobs', 'mail'), 2);
  assert.equal(await subscriber.psubscribe('job*'), 3);
  assert.equal(await t.redis.publish('jobs', 'one'), 2);
  assert.equal(await t.redis.publish('mail', 'zwei ü'), 1);
  assert.equal(await t.redis.publish('nobody', 'x'), 0);
  await until('three are heard', () => heard.length === 3);
  assert.deepEqual(heard, ['jobs=one', 'job*/jobs=one', 'mail=zwei ü']);
  assert.deepEqual((await t.redis.pubsub('CHANNELS')).sort(), ['jobs', 'mail']);
  assert.deepEqual(await t.redis.pubsub('NUMSUB', 'jobs', 'x'), ['jobs', 1, 'x', 0]);
  assert.equal(await t.redis.pubsub('NUMPAT'), 1);
  await subscriber.punsubscribe('job*');
  assert.equal(await subscriber.unsubscribe('jobs', 'mail'), 0);
  assert.equal(await subscriber.get('usable again'), null);
});

test('pub/sub: sharded channels', async (t) => {
  const subscriber = t.connect();
  const heard = [];
  subscriber.on('smessage', (channel, text) => heard.push(`${channel}=${text}`));
  await subscriber.ssubscribe('orders');
  assert.equal(await t.redis.spublish('orders', '1'), 1);
  assert.equal(await t.redis.publish('orders', 'no'), 0);
  await until('heard', () => heard.length === 1);
  assert.deepEqual(heard, ['orders=1']);
  assert.deepEqual(await t.redis.pubsub('SHARDCHANNELS'), ['orders']);
});

test('pub/sub: 5000 messages in order to 20 subscribers', async (t) => {
  const heard = await Promise.all(
    Array.from({ length: 20 }, async () => {
      const list = [];
      const client = t.connect();
      client.on('message', (channel, text) => list.push(Number(text)));
      await client.subscribe('feed');
      return list;
    }),
  );
  const pipeline = t.redis.pipeline();
  for (let n = 0; n < 5000; n += 1) pipeline.publish('feed', n);
  const replies = await pipeline.exec();
  assert.ok(replies.every(([, count]) => count === 20));
  await until('all heard all', () => heard.every((list) => list.length === 5000));
  for (const list of heard) assert.ok(list.every((value, n) => value === n));
});

test('pub/sub: keyspace events', async (t) => {
  const server = await t.start('--notify-keyspace-events', 'KEA');
  const client = t.connect({}, server.url);
  const subscriber = t.connect({}, server.url);
  const heard = [];
  subscriber.on('pmessage', (pattern, channel, text) => heard.push(`${channel} ${text}`));
  await subscriber.psubscribe('__key*__:*');
  await client.set('k', 'v', 'PX', 30);
  await until('it expires', () => heard.includes('__keyevent@0__:expired k'));
  assert.deepEqual(heard.slice(0, 4), ['__keyspace@0__:k set', '__keyevent@0__:set k', '__keyspace@0__:k expire', '__keyevent@0__:expire k']);
});

test('streams: add, range, read, trim, information', async (t) => {
  const ids = [];
  for (let n = 0; n < 5; n += 1) ids.push(await t.redis.xadd('s', '*', 'n', n, 'text', 'ä'));
  assert.ok(ids.every((id) => /^\d+-\d+$/.test(id)));
  assert.equal(await t.redis.xlen('s'), 5);
  assert.deepEqual((await t.redis.xrange('s', '-', '+', 'COUNT', 1))[0], [ids[0], ['n', '0', 'text', 'ä']]);
  assert.equal((await t.redis.xrevrange('s', '+', '-'))[0][0], ids[4]);
  const [[key, entries]] = await t.redis.xread('COUNT', 2, 'STREAMS', 's', ids[1]);
  assert.equal(key, 's');
  assert.deepEqual(entries.map(([id]) => id), [ids[2], ids[3]]);
  assert.equal(await t.redis.xread('STREAMS', 's', '$'), null);
  assert.equal(await t.redis.xtrim('s', 'MAXLEN', '=', 2), 3);
  assert.equal(await t.redis.xdel('s', ids[4]), 1);
  assert.equal(await t.redis.xlen('s'), 1);
});

test('streams: XREAD BLOCK wakes for each new entry', async (t) => {
  const reader = t.connect();
  const seen = [];
  const reading = (async () => {
    let last = '0';
    while (seen.length < 50) {
      const reply = await reader.xread('BLOCK', 60_000, 'STREAMS', 's', last);
      for (const [id, fields] of reply[0][1]) {
        seen.push(Number(fields[1]));
        last = id;
      }
    }
  })();
  for (let n = 0; n < 50; n += 1) await t.redis.xadd('s', '*', 'n', n);
  await reading;
  assert.deepEqual(seen, Array.from({ length: 50 }, (_, n) => n));
  const began = Date.now();
  assert.equal(await reader.xread('BLOCK', 120, 'STREAMS', 's', '$'), null);
  assert.ok(Date.now() - began >= 118);
});

test('streams: consumer groups share, acknowledge, claim', async (t) => {
  await t.redis.xgroup('CREATE', 's', 'g', '0', 'MKSTREAM');
  await assert.rejects(t.redis.xgroup('CREATE', 's', 'g', '0'), /BUSYGROUP Consumer Group name already exists/);
  for (let n = 0; n < 6; n += 1) await t.redis.xadd('s', `${n + 1}-0`, 'n', n);
  const [[, first]] = await t.redis.xreadgroup('GROUP', 'g', 'alice', 'COUNT', 4, 'STREAMS', 's', '>');
  const [[, second]] = await t.redis.xreadgroup('GROUP', 'g', 'bob', 'STREAMS', 's', '>');
  assert.deepEqual([first.length, second.length], [4, 2]);
  assert.equal(await t.redis.xack('s', 'g', '1-0', '2-0'), 2);
  const [count, low, high, consumers] = await t.redis.xpending('s', 'g');
  assert.deepEqual([count, low, high, consumers], [4, '3-0', '6-0', [['alice', '2'], ['bob', '2']]]);
  const [cursor, claimed, deleted] = await t.redis.xautoclaim('s', 'g', 'bob', 0, '0', 'COUNT', 10);
  assert.deepEqual([cursor, claimed.map(([id]) => id), deleted], ['0-0', ['3-0', '4-0', '5-0', '6-0'], []]);
  const blocked = t.connect();
  const reading = blocked.xreadgroup('GROUP', 'g', 'carol', 'BLOCK', 60_000, 'STREAMS', 's', '>');
  await until('it waits', async () => (await t.redis.info('clients')).includes('blocked_clients:1\r\n'));
  await t.redis.xadd('s', '9-1', 'n', 'last');
  assert.deepEqual(await reading, [['s', [['9-1', ['n', 'last']]]]]);
});

test('scanStream: keys by pattern and type, fields, members', async (t) => {
  const pipeline = t.redis.pipeline();
  for (let n = 0; n < 3000; n += 1) pipeline.set(`user:${n}`, n).sadd(`tags:${n % 50}`, n);
  for (let n = 0; n < 1000; n += 1) pipeline.hset('hash', `f${n}`, n).zadd('zset', n, `m${n}`);
  await pipeline.exec();
  assert.equal(new Set(await collect(t.redis.scanStream({ match: 'user:*', count: 100 }))).size, 3000);
  assert.equal(new Set(await collect(t.redis.scanStream({ type: 'set' }))).size, 50);
  assert.equal((await collect(t.redis.hscanStream('hash'))).length / 2, 1000);
  assert.equal(new Set(await collect(t.redis.sscanStream('tags:7'))).size, 60);
  assert.equal((await collect(t.redis.zscanStream('zset', { match: 'm99*' }))).length / 2, 11);
  assert.deepEqual(await collect(t.redis.scanStream({ match: 'nothing:*' })), []);
});

test('SCAN: keys that stay are found while the table grows and shrinks', async (t) => {
  const stable = Array.from({ length: 2000 }, (_, n) => `stable:${n}`);
  await t.redis.mset(stable.flatMap((key) => [key, '1']));
  for (const grow of [true, false]) {
    const found = new Set();
    let cursor = '0';
    let round = 0;
    do {
      const [next, keys] = await t.redis.scan(cursor, 'COUNT', 50);
      keys.forEach((key) => found.add(key));
      cursor = next;
      const noise = Array.from({ length: 500 }, (_, n) => `noise:${round}:${n}`);
      if (grow) await t.redis.mset(noise.flatMap((key) => [key, 'x']));
      else await t.redis.del(noise);
      round += 1;
      assert.ok(round < 5000, 'the scan ends');
    } while (cursor !== '0' && round < 200);
    // After 200 rounds of growth the rest is read in peace.
    while (cursor !== '0') {
      const [next, keys] = await t.redis.scan(cursor, 'COUNT', 1000);
      keys.forEach((key) => found.add(key));
      cursor = next;
    }
    assert.deepEqual(stable.filter((key) => !found.has(key)), []);
  }
});

test('SCAN: fields and members that stay are found while their collection changes', async (t) => {
  const kinds = [
    ['hscan', 'h', (names) => t.redis.hset('h', ...names.flatMap((name) => [name, '1'])), (names) => t.redis.hdel('h', names)],
    ['sscan', 'set', (names) => t.redis.sadd('set', names), (names) => t.redis.srem('set', names)],
    ['zscan', 'z', (names) => t.redis.zadd('z', ...names.flatMap((name, n) => [n, name])), (names) => t.redis.zrem('z', names)],
  ];
  for (const [command, key, add, remove] of kinds) {
    const stable = Array.from({ length: 1000 }, (_, n) => `stable:${n}`);
    await add(stable);
    const found = new Set();
    let cursor = '0';
    let round = 0;
    do {
      const [next, items] = await t.redis[command](key, cursor, 'COUNT', 20);
      items.forEach((item) => found.add(item));
      cursor = next;
      const noise = Array.from({ length: 200 }, (_, n) => `noise:${Math.floor(round / 2)}:${n}`);
      if (round < 60) await (round % 2 ? remove(noise) : add(noise));
      round += 1;
    } while (cursor !== '0' && round < 5000);
    assert.deepEqual(stable.filter((name) => !found.has(name)), [], command);
  }
});

test('MONITOR: shows what the others send', async (t) => {
  const monitor = await t.connect().monitor();
  t.clients.push(monitor);
  const seen = [];
  monitor.on('monitor', (time, args) => seen.push(args.join(' ')));
  await t.redis.set('watched', 'a "b"');
  await until('it is seen', () => seen.some((line) => line.toLowerCase() === 'set watched a "b"'));
});
