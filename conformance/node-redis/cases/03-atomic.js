'use strict';
// Pipelines, transactions, WATCH, scripts, functions, blocking commands, locks and limits.

const assert = require('node:assert/strict');
const { randomUUID } = require('node:crypto');
const { test, until } = require('../../lib/cases');
const { sleep } = require('../../lib/server');

test('pipeline: commands of one tick go together, in order', async (t) => {
  const replies = await Promise.all(Array.from({ length: 5000 }, (_, n) => (n % 2 ? t.redis.incr('n') : t.redis.echo(`${n}`))));
  assert.equal(replies[4998], '4998');
  assert.equal(replies[4999], 2500);
  const mixed = await Promise.allSettled([t.redis.set('a', '1'), t.redis.lPush('a', 'x'), t.redis.get('a')]);
  assert.equal(mixed[0].value, 'OK');
  assert.match(mixed[1].reason.message, /WRONGTYPE Operation against a key holding the wrong kind of value/);
  assert.equal(mixed[2].value, '1');
  assert.deepEqual(await t.redis.multi().set('a', '2').incr('a').execAsPipeline(), ['OK', 3]);
});

test('transactions: replies by command, an error of one, a refused one', async (t) => {
  assert.deepEqual(await t.redis.multi().set('k', '1').incr('k').get('k').exec(), ['OK', 2, '2']);
  const error = await t.redis.multi().set('k', 'x').incr('k').lPush('list', 'v').exec().catch((caught) => caught);
  assert.equal(error.errorIndexes.length, 1);
  assert.match(error.replies[1].message, /ERR value is not an integer or out of range/);
  assert.equal(await t.redis.lLen('list'), 1, 'the others are done');
  const refused = await t.redis.multi().set('k', 'never').addCommand(['NOSUCH']).exec().catch((caught) => caught);
  assert.match(refused.message, /ERR unknown command 'NOSUCH'/);
  assert.equal(await t.redis.get('k'), 'x');
});

test('transactions: WATCH sees another client; an untouched key lets EXEC through', async (t) => {
  const one = await t.connect();
  await t.redis.set('balance', '10');
  await one.watch('balance');
  await t.redis.incr('balance');
  await assert.rejects(one.multi().set('balance', '0').exec(), /One \(or more\) of the watched keys has been changed/);
  assert.equal(await t.redis.get('balance'), '11');
  await one.watch(['balance', 'other']);
  assert.deepEqual(await one.multi().set('balance', '0').exec(), ['OK']);
  await one.watch('balance');
  await t.redis.set('balance', '5');
  await one.unwatch();
  assert.deepEqual(await one.multi().get('balance').exec(), ['5']);
});

test('transactions: 8 clients transfer money under WATCH, and none is lost', async (t) => {
  const accounts = ['acc:0', 'acc:1', 'acc:2'];
  await t.redis.mSet(Object.fromEntries(accounts.map((account) => [account, '100'])));
  const transfer = async (client, n) => {
    const [from, to] = [accounts[n % 3], accounts[(n + 1) % 3]];
    for (;;) {
      await client.watch([from, to]);
      const [a, b] = (await client.mGet([from, to])).map(Number);
      try {
        return await client.multi().set(from, String(a - 1)).set(to, String(b + 1)).incr('transfers').exec();
      } catch (error) {
        assert.match(error.message, /watched keys/);
      }
    }
  };
  const clients = await Promise.all(Array.from({ length: 8 }, () => t.connect()));
  await Promise.all(clients.map(async (client, c) => {
    for (let n = 0; n < 20; n += 1) await transfer(client, c + n);
  }));
  assert.equal((await t.redis.mGet(accounts)).reduce((sum, text) => sum + Number(text), 0), 300);
  assert.equal(await t.redis.get('transfers'), '160');
});

test('scripts: by body, by digest, after a flush, with errors', async (t) => {
  const script = 'return {KEYS[1], ARGV[1], redis.call("INCRBY", KEYS[1], ARGV[1])}';
  assert.deepEqual(await t.redis.eval(script, { keys: ['n'], arguments: ['5'] }), ['n', '5', 5]);
  const digest = await t.redis.scriptLoad(script);
  assert.deepEqual((await t.redis.scriptExists([digest, '0'.repeat(40)])).map(Number), [1, 0]);
  assert.deepEqual(await t.redis.evalSha(digest, { keys: ['n'], arguments: ['1'] }), ['n', '1', 6]);
  await t.redis.scriptFlush();
  await assert.rejects(t.redis.evalSha(digest, { keys: ['n'], arguments: ['1'] }), /NOSCRIPT No matching script/);
  await assert.rejects(t.redis.eval('return redis.error_reply("MY own error")'), /^(Error|ErrorReply|SimpleError): MY own error/);
  await assert.rejects(t.redis.eval('return nosuch'), /Script attempted to access nonexistent global variable 'nosuch'/);
  await assert.rejects(t.redis.evalRo('return redis.call("SET", KEYS[1], "x")', { keys: ['n'] }), /Write commands are not allowed from read-only scripts/);
  assert.equal(await t.redis.eval('return 3.99'), 3);
  assert.equal(await t.redis.eval('return false'), null);
});

test('scripts: a rate limiter of one round trip', async (t) => {
  const limiter = `
    local rate, burst, now, cost = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
    local state = redis.call('HMGET', KEYS[1], 'tokens', 'at')
    local tokens = math.min(burst, (tonumber(state[1]) or burst) + (now - (tonumber(state[2]) or now)) * rate / 1000)
    local ok = tokens >= cost
    if ok then tokens = tokens - cost end
    redis.call('HSET', KEYS[1], 'tokens', tostring(tokens), 'at', now)
    redis.call('PEXPIRE', KEYS[1], math.ceil(burst / rate * 1000))
    return {ok and 1 or 0, tostring(tokens)}`;
  const spend = (now) => t.redis.eval(limiter, { keys: ['bucket:1'], arguments: ['10', '3', String(now), '1'] });
  assert.deepEqual(await spend(1000), [1, '2']);
  assert.deepEqual(await spend(1000), [1, '1']);
  assert.deepEqual(await spend(1000), [1, '0']);
  assert.deepEqual(await spend(1050), [0, '0.5']);
  assert.deepEqual(await spend(1150), [1, '0.5']);
  assert.ok((await t.redis.pTTL('bucket:1')) > 200);
});

test('functions: a library is loaded, called, listed, dumped, restored', async (t) => {
  const library = `#!lua name=shop
    redis.register_function('buy', function(keys, args) return redis.call('DECRBY', keys[1], args[1]) end)
    redis.register_function{function_name='left', callback=function(keys) return redis.call('GET', keys[1]) end, flags={'no-writes'}}`;
  assert.equal(await t.redis.functionLoad(library), 'shop');
  await assert.rejects(t.redis.functionLoad(library), /ERR Library 'shop' already exists/);
  assert.equal(await t.redis.functionLoad(library, { REPLACE: true }), 'shop');
  await t.redis.set('stock', '10');
  assert.equal(await t.redis.fCall('buy', { keys: ['stock'], arguments: ['3'] }), 7);
  assert.equal(await t.redis.fCallRo('left', { keys: ['stock'], arguments: [] }), '7');
  await assert.rejects(t.redis.fCallRo('buy', { keys: ['stock'], arguments: ['1'] }), /Can not execute a script with write flag using \*_ro command/);
  const [listed] = await t.redis.functionList();
  assert.equal(listed.library_name, 'shop');
  assert.equal(listed.engine, 'LUA');
  assert.deepEqual(listed.functions.map(({ name }) => name).sort(), ['buy', 'left']);
  const dump = await t.redis.withTypeMapping({ 36: Buffer }).functionDump();
  await t.redis.functionFlush();
  await assert.rejects(t.redis.fCall('buy', { keys: ['stock'], arguments: ['1'] }), /ERR Function not found/);
  assert.equal(await t.redis.functionRestore(dump), 'OK');
  assert.equal(await t.redis.fCall('buy', { keys: ['stock'], arguments: ['1'] }), 6);
  await t.redis.functionDelete('shop');
});

test('blocking: list and sorted set commands serve the one that waited longest', async (t) => {
  const clients = await Promise.all([t.connect(), t.connect(), t.connect()]);
  const waiting = [];
  for (const [n, client] of clients.entries()) {
    waiting.push(client.blPop(['first', 'second'], 60));
    await until('it waits', async () => new RegExp(`blocked_clients:${n + 1}\\r`).test(await t.redis.info('clients')));
  }
  await t.redis.rPush('second', ['a', 'b']);
  await t.redis.multi().rPush('first', 'c').rPush('first', 'd').exec();
  assert.deepEqual((await Promise.all(waiting)).map(({ key, element }) => `${key}:${element}`), ['second:a', 'second:b', 'first:c']);
  assert.equal(await clients[0].blPop('nothing', 0.05), null);
  assert.equal(await clients[0].bzPopMin('nothing', 0.05), null);
  assert.equal(await clients[0].blMove('nothing', 'target', 'LEFT', 'RIGHT', 0.05), null);
  const popping = clients[1].bzPopMax(['z'], 60);
  const multi = clients[2].blmPop(60, ['many'], 'LEFT', { COUNT: 2 });
  await until('both wait', async () => /blocked_clients:2\r/.test(await t.redis.info('clients')));
  await t.redis.zAdd('z', [{ score: 1, value: 'low' }, { score: 2, value: 'high' }]);
  await t.redis.rPush('many', ['1', '2', '3']);
  assert.deepEqual(await popping, { key: 'z', value: 'high', score: 2 });
  assert.deepEqual(await multi, ['many', ['1', '2']]);
  const unblocked = clients[0].brPop('nothing', 60);
  const id = await clients[1].clientId();
  assert.ok(id > 0);
  await until('it waits', async () => /blocked_clients:1\r/.test(await t.redis.info('clients')));
  const line = (await t.redis.clientList()).find(({ cmd }) => cmd === 'brpop');
  assert.equal(await t.redis.sendCommand(['CLIENT', 'UNBLOCK', String(line.id)]), 1);
  assert.equal(await unblocked, null);
});

test('blocking: a pool of workers over a list, 500 jobs, each once', async (t) => {
  const done = [];
  const workers = await Promise.all(Array.from({ length: 6 }, () => t.connect()));
  const loops = workers.map(async (client, n) => {
    for (;;) {
      const job = await client.blMove('pending', `active:${n}`, 'RIGHT', 'LEFT', 60);
      if (job === 'stop') return;
      done.push(job);
      await client.lRem(`active:${n}`, 1, job);
    }
  });
  for (let n = 0; n < 500; n += 1) await t.redis.lPush('pending', `job ${n}`);
  await t.redis.lPush('pending', workers.map(() => 'stop'));
  await Promise.all(loops);
  assert.equal(done.length, 500);
  assert.equal(new Set(done).size, 500);
});

test('locks: taken once, extended and released by the owner, free after its time', async (t) => {
  const RELEASE = 'if redis.call("get", KEYS[1]) == ARGV[1] then return redis.call("del", KEYS[1]) end return 0';
  const clients = await Promise.all(Array.from({ length: 10 }, () => t.connect()));
  const tokens = clients.map(() => randomUUID());
  const took = await Promise.all(clients.map((client, n) => client.set('lock', tokens[n], { NX: true, PX: 60_000 })));
  assert.equal(took.filter((reply) => reply === 'OK').length, 1);
  const owner = took.indexOf('OK');
  assert.equal(await t.redis.eval(RELEASE, { keys: ['lock'], arguments: [tokens[(owner + 1) % 10]] }), 0);
  assert.equal(await t.redis.eval(RELEASE, { keys: ['lock'], arguments: [tokens[owner]] }), 1);
  assert.equal(await t.redis.set('lock', 'x', { NX: true, PX: 60 }), 'OK');
  await sleep(100);
  assert.equal(await t.redis.set('lock', 'y', { NX: true, PX: 60 }), 'OK');
});

test('sessions: a store with sliding expiry and an index', async (t) => {
  const ids = Array.from({ length: 20 }, () => randomUUID());
  await Promise.all(ids.map((id, n) => t.redis.multi()
    .set(`sess:${id}`, JSON.stringify({ n, at: Date.now() }), { EX: 3600 })
    .zAdd('sess:index', { score: n, value: id })
    .exec()));
  const read = JSON.parse(await t.redis.getEx(`sess:${ids[3]}`, { type: 'EX', value: 7200 }));
  assert.equal(read.n, 3);
  assert.ok((await t.redis.ttl(`sess:${ids[3]}`)) > 7000);
  const old = await t.redis.zRange('sess:index', '-inf', 9, { BY: 'SCORE' });
  assert.equal(old.length, 10);
  assert.equal(await t.redis.unlink(old.map((id) => `sess:${id}`)), 10);
  assert.equal(await t.redis.zRemRangeByScore('sess:index', '-inf', 9), 10);
  assert.equal((await t.redis.keys('sess:????????-*')).length, 10);
});
