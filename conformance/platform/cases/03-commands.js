'use strict';
// Pipelines, autopipelining, scripts by defineCommand, MULTI and WATCH, binary data, errors.

const assert = require('node:assert/strict');
const { test, until } = require('../../lib/cases');

test('pipeline: 10,000 commands, replies in order', async (t) => {
  const pipeline = t.redis.pipeline();
  for (let n = 0; n < 10_000; n += 1) pipeline.set(`k:${n}`, n);
  assert.ok((await pipeline.exec()).every(([error, reply]) => error === null && reply === 'OK'));
  const reading = t.redis.pipeline();
  for (let n = 0; n < 10_000; n += 1) reading.get(`k:${n}`);
  const replies = await reading.exec();
  assert.equal(replies.length, 10_000);
  replies.forEach(([error, reply], n) => assert.ok(error === null && reply === String(n)));
  assert.equal(await t.redis.dbsize(), 10_000);
  const keys = Array.from({ length: 10_000 }, (_, n) => `k:${n}`);
  assert.equal((await t.redis.mget(keys))[9999], '9999');
  assert.equal(await t.redis.unlink(keys), 10_000);
});

test('pipeline: 10,000 commands of all kinds on one list', async (t) => {
  const pipeline = t.redis.pipeline();
  for (let n = 0; n < 5000; n += 1) pipeline.rpush('list', `item ${n}`).lindex('list', n);
  const replies = await pipeline.exec();
  assert.equal(replies.length, 10_000);
  assert.deepEqual(replies[9998], [null, 5000]);
  assert.deepEqual(replies[9999], [null, 'item 4999']);
  const all = await t.redis.lrange('list', 0, -1);
  assert.equal(all.length, 5000);
  assert.equal(all[2500], 'item 2500');
});

test('pipeline: an error in the middle leaves the others', async (t) => {
  const replies = await t.redis.pipeline().set('s', 'text').incr('s').lpush('s', 'x').get('s').exec();
  assert.deepEqual(replies[0], [null, 'OK']);
  assert.match(replies[1][0].message, /^ERR value is not an integer or out of range$/);
  assert.match(replies[2][0].message, /^WRONGTYPE Operation against a key holding the wrong kind of value$/);
  assert.deepEqual(replies[3], [null, 'text']);
});

test('pipeline: a reply before a blocking command arrives while it blocks', async (t) => {
  const raw = t.raw();
  raw.send('PING\r\nBLPOP empty 0\r\nPING\r\n');
  await raw.expect('+PONG\r\n');
  await t.redis.rpush('empty', 'now');
  await raw.expect('*2\r\n$5\r\nempty\r\n$3\r\nnow\r\n+PONG\r\n');
});

test('pipeline: a request cut at every byte', async (t) => {
  const request = '*3\r\n$3\r\nSET\r\n$3\r\ncut\r\n$5\r\na\r\nbc\r\n*2\r\n$3\r\nGET\r\n$3\r\ncut\r\n';
  for (let at = 1; at < request.length; at += 3) {
    const raw = t.raw();
    raw.send(request.slice(0, at));
    await new Promise((resolve) => setTimeout(resolve, 3));
    raw.send(request.slice(at));
    await raw.expect('+OK\r\n$5\r\na\r\nbc\r\n');
    raw.socket.destroy();
  }
});

test('autopipelining: 2000 commands of one tick', async (t) => {
  const client = t.connect({ enableAutoPipelining: true });
  await client.connect();
  const sets = Array.from({ length: 1000 }, (_, n) => client.set(`a:${n}`, n));
  const gets = Array.from({ length: 1000 }, (_, n) => client.get(`a:${n}`));
  assert.ok((await Promise.all(sets)).every((reply) => reply === 'OK'));
  assert.deepEqual(await Promise.all(gets), Array.from({ length: 1000 }, (_, n) => String(n)));
  await Promise.all([assert.rejects(client.incrby('a:1', 'x'), /not an integer/), client.set('fine', '1')]);
});

test('scripts: defineCommand with keys, arguments, arrays, errors, null', async (t) => {
  t.redis.defineCommand('swap', {
    numberOfKeys: 2,
    lua: `local a, b = redis.call('GET', KEYS[1]), redis.call('GET', KEYS[2])
          redis.call('MSET', KEYS[1], b, KEYS[2], a) return {b, a, ARGV[1], #ARGV, false, 3.99, {1, {2}}}`,
  });
  await t.redis.mset('x', '1', 'y', '2');
  assert.deepEqual(await t.redis.swap('x', 'y', 'arg'), ['2', '1', 'arg', 1, null, 3, [1, [2]]]);
  assert.equal(await t.redis.get('x'), '2');
  t.redis.defineCommand('fails', { numberOfKeys: 0, lua: `return redis.error_reply('MINE is the reason')` });
  await assert.rejects(t.redis.fails(), /^ReplyError: MINE is the reason/);
  t.redis.defineCommand('wrong', { numberOfKeys: 1, lua: `return redis.call('LPUSH', KEYS[1], 1)` });
  await assert.rejects(t.redis.wrong('x'), /WRONGTYPE Operation against a key holding the wrong kind of value/);
  await t.redis.script('FLUSH');
  assert.deepEqual((await t.redis.swap('x', 'y', 'again')).slice(0, 2), ['1', '2'], 'NOSCRIPT is met by EVAL');
  const replies = await t.redis.pipeline().swap('x', 'y', 'p').get('x').exec();
  assert.equal(replies[1][1], '2');
});

test('scripts: EVALSHA, EXISTS, LOAD, NOSCRIPT', async (t) => {
  const sha = await t.redis.script('LOAD', 'return ARGV[1]');
  assert.equal(sha, '098e0f0d1448c0a81dafe820f66d460eb09263da');
  assert.deepEqual(await t.redis.script('EXISTS', sha, 'f'.repeat(40)), [1, 0]);
  assert.equal(await t.redis.evalsha(sha, 0, 'héllo'), 'héllo');
  await assert.rejects(t.redis.evalsha('f'.repeat(40), 0), /^ReplyError: NOSCRIPT No matching script\. Please use EVAL\.$/);
});

test('scripts: cjson, cmsgpack, struct and bit', async (t) => {
  const [json, packed, struct, bit] = await t.redis.evalBuffer(
    `return {cjson.encode({a = {1, 2.5, true}, }), cmsgpack.pack({1, 'x'}), struct.pack('>I2', 258), bit.tohex(bit.band(255, 0x0f))}`,
    0,
  );
  assert.deepEqual(JSON.parse(json.toString()), { a: [1, 2.5, true] });
  assert.equal(packed.toString('latin1'), '\x92\x01\xa1x');
  assert.equal(struct.toString('latin1'), '\x01\x02');
  assert.equal(bit.toString(), '0000000f');
});

test('MULTI: replies, discard, errors before and within', async (t) => {
  assert.deepEqual(await t.redis.multi().set('a', '1').incr('a').get('a').exec(), [[null, 'OK'], [null, 2], [null, '2']]);
  const client = t.connect();
  await client.multi({ pipeline: false });
  assert.equal(await client.set('a', '9'), 'QUEUED');
  assert.equal(await client.discard(), 'OK');
  assert.equal(await client.get('a'), '2');
  await assert.rejects(t.redis.multi().set('a').exec(), /EXECABORT Transaction discarded because of previous errors\./);
  const within = await t.redis.multi().set('a', 'x').incr('a').set('b', '1').exec();
  assert.match(within[1][0].message, /not an integer/);
  assert.equal(await t.redis.get('b'), '1');
});

test('WATCH: a changed key makes EXEC null; an untouched one not', async (t) => {
  const client = t.connect();
  await client.set('stock', '5');
  await client.watch('stock');
  await t.redis.decr('stock');
  assert.equal(await client.multi().set('stock', '100').exec(), null);
  assert.equal(await client.get('stock'), '4');
  await client.watch('stock');
  assert.deepEqual(await client.multi().decr('stock').exec(), [[null, 3]]);
  await client.watch('stock');
  await client.unwatch();
  await t.redis.decr('stock');
  assert.deepEqual(await client.multi().get('stock').exec(), [[null, '2']]);
});

test('WATCH: 10 clients take 100 items, none twice', async (t) => {
  await t.redis.set('stock', '100');
  let sold = 0;
  const seller = async () => {
    const client = t.connect();
    for (;;) {
      await client.watch('stock');
      const left = Number(await client.get('stock'));
      if (left === 0) return;
      if (await client.multi().set('stock', left - 1).exec()) sold += 1;
    }
  };
  await Promise.all(Array.from({ length: 10 }, seller));
  assert.equal(sold, 100);
  assert.equal(await t.redis.get('stock'), '0');
});

test('binary: keys and values of all byte values', async (t) => {
  const bytes = Buffer.from(Array.from({ length: 256 }, (_, n) => n));
  await t.redis.set(bytes, bytes);
  assert.deepEqual(await t.redis.getBuffer(bytes), bytes);
  assert.equal(await t.redis.strlen(bytes), 256);
  await t.redis.hset('h', bytes, bytes);
  assert.deepEqual((await t.redis.hvalsBuffer('h'))[0], bytes);
  const big = Buffer.alloc(5_000_000, 0x61);
  await t.redis.set('big', big);
  assert.ok((await t.redis.getBuffer('big')).equals(big));
});

test('values: numbers keep their form', async (t) => {
  assert.equal(await t.redis.incrbyfloat('f', '10.50'), '10.5');
  assert.equal(await t.redis.incrbyfloat('f', '5.0e3'), '5010.5');
  await t.redis.set('max', '9223372036854775807');
  await assert.rejects(t.redis.incr('max'), /ERR increment or decrement would overflow/);
  await t.redis.zadd('z', 1.5, 'a', '7320063999999999', 'b', 'inf', 'c');
  assert.deepEqual((await t.redis.zrange('z', 0, -1, 'WITHSCORES')).map(String), ['a', '1.5', 'b', '7320063999999999', 'c', 'inf']);
  assert.equal(String(await t.redis.zincrby('z', 0.25, 'a')), '1.75');
});

test('blocking: BLPOP, BLMOVE, BZPOPMIN serve in order and time out', async (t) => {
  const clients = [t.connect(), t.connect(), t.connect()];
  await Promise.all(clients.map((client) => client.ping()));
  const served = [];
  for (const [n, client] of clients.entries()) {
    client.blpop('queue', 'other', 60).then((reply) => served.push([n, reply]));
    await until('it waits', async () => (await t.redis.info('clients')).includes(`blocked_clients:${n + 1}\r\n`));
  }
  await t.redis.rpush('queue', 'a', 'b');
  await t.redis.rpush('other', 'c');
  await until('all are served', () => served.length === 3);
  assert.deepEqual(served.sort(([a], [b]) => a - b), [[0, ['queue', 'a']], [1, ['queue', 'b']], [2, ['other', 'c']]]);
  const began = Date.now();
  assert.equal(await clients[0].blpop('queue', 0.15), null);
  assert.ok(Date.now() - began >= 148);
  const moving = clients[0].blmove('from', 'to', 'LEFT', 'RIGHT', 60);
  const popping = clients[1].bzpopmin('z', 60);
  await until('both wait', async () => (await t.redis.info('clients')).includes('blocked_clients:2\r\n'));
  await t.redis.multi().lpush('from', 'x').zadd('z', 2, 'two').zadd('z', 1, 'one').exec();
  assert.equal(await moving, 'x');
  assert.deepEqual((await popping).map(String), ['z', 'one', '1']);
  assert.deepEqual(await t.redis.lrange('to', 0, -1), ['x']);
});

test('blocking: a push from a script wakes the waiting client', async (t) => {
  const client = t.connect();
  const popping = client.brpop('queue', 60);
  await until('it waits', async () => (await t.redis.info('clients')).includes('blocked_clients:1\r\n'));
  await t.redis.eval(`redis.call('LPUSH', KEYS[1], 'from lua') return 1`, 1, 'queue');
  assert.deepEqual(await popping, ['queue', 'from lua']);
});
