'use strict';
// Pub/sub, client-side caching, connections, and what tools ask of the server.

const assert = require('node:assert/strict');
const { test, until } = require('../../lib/cases');
const { sleep } = require('../../lib/server');
const { createClient, createClientPool, createCluster, RESP } = require('../context');

test('pub/sub: channels, patterns, shards, bytes, counts', async (t) => {
  const subscriber = await t.connect();
  const got = [];
  await subscriber.subscribe(['news', 'sport'], (message, channel) => got.push(`${channel}: ${message}`));
  await subscriber.pSubscribe('ne?s*', (message, channel) => got.push(`pattern ${channel}: ${message}`));
  await subscriber.sSubscribe('shard', (message, channel) => got.push(`shard ${channel}: ${message}`));
  assert.equal(await t.redis.publish('news', 'hello'), 2);
  assert.equal(await t.redis.publish('sport', '1:0'), 1);
  assert.equal(await t.redis.publish('nobody', 'x'), 0);
  assert.equal(await t.redis.sPublish('shard', 'here'), 1);
  await until('all have come', () => got.length === 4);
  assert.deepEqual(got, ['news: hello', 'pattern news: hello', 'sport: 1:0', 'shard shard: here']);
  assert.deepEqual((await t.redis.pubSubChannels()).sort(), ['news', 'sport']);
  assert.deepEqual({ ...(await t.redis.pubSubNumSub(['news', 'none'])) }, { news: 1, none: 0 });
  assert.equal(await t.redis.pubSubNumPat(), 1);
  assert.deepEqual(await t.redis.pubSubShardChannels(), ['shard']);
  await subscriber.unsubscribe('sport');
  await subscriber.pUnsubscribe('ne?s*');
  assert.equal(await t.redis.publish('sport', '2:0'), 0);
  assert.equal(await t.redis.publish('news', 'again'), 1);
  const bytes = [];
  await subscriber.subscribe('bytes', (message) => bytes.push(message), true);
  await t.redis.publish('bytes', Buffer.from([0, 255, 13, 10]));
  await until('the bytes have come', () => bytes.length === 1);
  assert.deepEqual(bytes[0], Buffer.from([0, 255, 13, 10]));
});

if (RESP === 3) {
  test('pub/sub: under RESP3 the subscribed connection goes on with commands', async (t) => {
    const got = [];
    await t.redis.subscribe('mixed', (message) => got.push(message));
    for (let n = 0; n < 100; n += 1) {
      await t.redis.publish('mixed', String(n));
      assert.equal(await t.redis.incr('n'), n + 1);
    }
    await until('all have come', () => got.length === 100);
    assert.deepEqual(got, Array.from({ length: 100 }, (_, n) => String(n)));
    // Redis 7.0 puts the message between the replies of the transaction.
    if (!(await t.since('7.2'))) return;
    assert.deepEqual(await t.redis.multi().publish('mixed', 'in a transaction').get('n').exec(), [1, '100']);
    await until('and this one', () => got.length === 101);
  });

  test('client-side caching: kept, and dropped when another client writes, expires, flushes', async (t) => {
    const cached = await t.connect({ clientSideCache: { ttl: 0, maxEntries: 0, evictPolicy: 'LRU' } });
        const value = async (wanted) => until(`the cache says ${wanted}`, async () => (await cached.get('k')) === wanted);
    await t.redis.set('k', '1');
    for (let n = 0; n < 10; n += 1) assert.equal(await cached.get('k'), '1');
    const { hitCount } = cached.clientSideCache.stats();
    assert.ok(hitCount >= 8, `${hitCount} hits`);
    await t.redis.set('k', '2');
    await value('2');
    await t.redis.pExpire('k', 60);
    await sleep(120);
    await value(null);
    await t.redis.set('k', '3');
    await value('3');
    await t.redis.flushAll();
    await value(null);
    await t.redis.hSet('h', 'f', 'v');
    assert.deepEqual({ ...(await cached.hGetAll('h')) }, { f: 'v' });
    await t.redis.eval('redis.call("HSET", KEYS[1], "f", "w")', { keys: ['h'] });
    await until('the script is seen', async () => (await cached.hGet('h', 'f')) === 'w');
  });

  test('client-side caching: broadcast of a prefix', async (t) => {
    const seen = [];
    const tracker = await t.connect({ emitInvalidate: true });
    tracker.on('invalidate', (key) => seen.push(key && key.toString()));
    await tracker.clientTracking(false);
    await tracker.clientTracking(true, { BCAST: true, PREFIX: ['user:'] });
    assert.ok((await tracker.clientTrackingInfo()).flags);
    await t.redis.mSet({ 'user:1': 'a', 'other:1': 'b', 'user:2': 'c' });
    await until('both have come', () => seen.length >= 2);
    assert.deepEqual(seen.sort(), ['user:1', 'user:2']);
    assert.equal(await tracker.clientGetRedir(), 0);
  });
}

test('keyspace events: set, expire, del and the event of expiry', async (t) => {
  await t.redis.configSet('notify-keyspace-events', 'KEA');
  const subscriber = await t.connect();
  const got = [];
  await subscriber.pSubscribe('__key*__:*', (message, channel) => got.push(`${channel} ${message}`));
  await t.redis.set('k', 'v', { PX: 30 });
  await t.redis.lPush('l', 'x');
  await t.redis.lPop('l');
  await until('it expired', () => got.some((line) => line.endsWith('expired k')));
  await t.redis.configSet('notify-keyspace-events', '');
  assert.deepEqual(got.filter((line) => line.includes('keyevent')), [
    '__keyevent@0__:set k', '__keyevent@0__:expire k', '__keyevent@0__:lpush l', '__keyevent@0__:lpop l',
    '__keyevent@0__:del l', '__keyevent@0__:expired k',
  ]);
  assert.equal(got.filter((line) => line.includes('keyspace')).length, 6);
});

test('connections: names, numbers, lists, databases, killed and back', async (t) => {
  const client = await t.connect({ name: 'reports', database: 5 });
  assert.equal(await client.clientGetName(), 'reports');
  const id = await client.clientId();
  const mine = (await t.redis.clientList()).find((one) => one.id === id);
  assert.equal(mine.name, 'reports');
  assert.equal(mine.db, 5);
  assert.equal(mine.user, 'default');
  if (await t.since('7.2')) {
    assert.equal(mine.libName, 'node-redis');
    assert.match(mine.libVer, /^\d+\.\d+\.\d+$/);
  }
  assert.equal((await client.clientInfo()).id, id);
  await client.set('where', 'five');
  assert.equal(await t.redis.get('where'), null);
  assert.equal(await client.move('where', 0), 1);
  assert.equal(await t.redis.get('where'), 'five');
  assert.equal(await t.redis.sendCommand(['CLIENT', 'KILL', 'ID', String(id)]), 1);
  await until('it is back', async () => client.isReady && (await client.clientId().catch(() => id)) !== id);
  assert.equal(await client.clientGetName(), 'reports');
  assert.equal(await client.dbSize(), 0);
  assert.equal(await t.redis.clientNoEvict(true), 'OK');
  assert.equal(await t.redis.clientPause(10), 'OK');
  assert.equal(await t.redis.clientUnpause(), 'OK');
});

test('connections: password, user, wrong password', async (t) => {
  const server = await t.start('--requirepass', 'pass word');
  const client = await t.connect({ url: server.url, password: 'pass word' });
  assert.equal(await client.set('k', 'v'), 'OK');
  const wrong = createClient({ url: server.url, RESP, password: 'no', socket: { reconnectStrategy: false } });
  wrong.on('error', () => {});
  await assert.rejects(wrong.connect(), /WRONGPASS invalid username-password pair or user is disabled/);
  const none = createClient({ url: server.url, RESP, socket: { reconnectStrategy: false } });
  none.on('error', () => {});
  await assert.rejects(none.connect().then(() => none.get('k')), /NOAUTH/);
  for (const one of [wrong, none]) if (one.isOpen) one.destroy();
});

test('connections: an ACL user is kept within its rules', async (t) => {
  await t.redis.aclSetUser('reader', ['on', '>secret', '~cache:*', '&news', '+@read', '+subscribe', '+client', '+hello', '+ping']);
  const client = await t.connect({ username: 'reader', password: 'secret' });
  await t.redis.set('cache:1', 'v');
  assert.equal(await client.get('cache:1'), 'v');
  await assert.rejects(client.get('other'), /NOPERM/);
  await assert.rejects(client.set('cache:1', 'w'), /NOPERM/);
  const user = await t.redis.aclGetUser('reader');
  assert.ok(user.flags.includes('on'));
  assert.equal(user.keys, '~cache:*');
  assert.equal(await t.redis.aclWhoAmI(), 'default');
  assert.equal(await t.redis.aclDelUser('reader'), 1);
  assert.ok((await t.redis.aclList()).length >= 1);
  assert.ok((await t.redis.aclCat()).includes('dangerous'));
});

test('connections: a pool of them', async (t) => {
  const pool = createClientPool({ url: t.server.url, RESP }, { minimum: 2, maximum: 10 });
  pool.on('error', (error) => t.errors.push(error));
  await pool.connect();
  await Promise.all(Array.from({ length: 500 }, () => pool.incr('n')));
  assert.equal(await t.redis.get('n'), '500');
  const replies = await Promise.all(Array.from({ length: 20 }, (_, n) => pool.execute(async (client) => {
    await client.watch(`mine:${n}`);
    return client.multi().set(`mine:${n}`, 'x').exec();
  })));
  assert.ok(replies.every(([reply]) => reply === 'OK'));
  pool.destroy();
});

test('connections: a server that restarts is found again', async (t) => {
  const server = await t.start('--appendonly', 'yes');
  const client = await t.connect({ url: server.url, socket: { reconnectStrategy: 20 } });
  await client.set('kept', 'yes');
  await server.restart();
  // It may be back while the server still says LOADING.
  assert.equal(await until('it is loaded', () => client.get('kept').catch(() => null)), 'yes');
});

test('cluster: a client of a cluster is told that there is none', async (t) => {
  await assert.rejects(t.redis.sendCommand(['CLUSTER', 'SLOTS']), /ERR This instance has cluster support disabled/);
  await assert.rejects(t.redis.sendCommand(['CLUSTER', 'SHARDS']), /ERR This instance has cluster support disabled/);
  assert.match(String(await t.redis.info('cluster')), /cluster_enabled:0/);
  const cluster = createCluster({ rootNodes: [{ url: t.server.url }], defaults: { RESP } });
  cluster.on('error', () => {});
  await assert.rejects(cluster.connect());
  cluster.destroy?.();
});

test('tools: INFO, CONFIG, COMMAND, SLOWLOG, LATENCY, MEMORY, OBJECT', async (t) => {
  const info = await t.redis.info();
  for (const section of ['Server', 'Clients', 'Memory', 'Persistence', 'Stats', 'Replication', 'CPU', 'Modules', 'Errorstats', 'Cluster', 'Keyspace']) {
    assert.ok(info.includes(`# ${section}\r\n`), section);
  }
  assert.match(info, /\r\nredis_version:\d+\.\d+\.\d+\r\n/);
  const config = await t.redis.configGet('maxmemory*');
  assert.equal(config['maxmemory-policy'], 'noeviction');
  assert.equal(await t.redis.configSet({ 'slowlog-log-slower-than': '0', 'slowlog-max-len': '10' }), 'OK');
  await t.redis.set('slow', 'x'.repeat(300));
  const slow = await t.redis.sendCommand(['SLOWLOG', 'GET', '-1']);
  assert.ok(slow.some((entry) => entry[3][0] === 'SET' && entry[3][2].endsWith('... (172 more bytes)')), JSON.stringify(slow));
  assert.equal(await t.redis.sendCommand(['SLOWLOG', 'RESET']), 'OK');
  await t.redis.configSet('slowlog-log-slower-than', '10000');
  await assert.rejects(t.redis.configSet('no-such', '1'), /ERR Unknown option or number of arguments for CONFIG SET - 'no-such'/);
  assert.equal(await t.redis.configResetStat(), 'OK');
  assert.ok((await t.redis.commandCount()) >= 240);
  const [get] = await t.redis.commandInfo(['get']);
  assert.equal(get.name, 'get');
  assert.equal(get.arity, 2);
  assert.deepEqual([...get.flags].sort(), ['fast', 'readonly']);
  assert.deepEqual(await t.redis.commandGetKeys(['MSET', 'a', '1', 'b', '2']), ['a', 'b']);
  assert.ok((await t.redis.commandList({ FILTERBY: { type: 'PATTERN', value: 'xread*' } })).includes('xreadgroup'));
  assert.ok((await t.redis.memoryUsage('slow')) > 300);
  assert.ok((await t.redis.memoryStats())['peak.allocated'] > 0);
  assert.match(await t.redis.memoryDoctor(), /\w/);
  assert.deepEqual([...(await t.redis.latencyLatest())], []);
  assert.equal(await t.redis.objectEncoding('slow'), 'raw');
  assert.equal(await t.redis.objectRefCount('slow'), 1);
  assert.ok((await t.redis.objectIdleTime('slow')) <= 60);
  const [seconds, microseconds] = await t.redis.time().then((time) => (time instanceof Date ? [time.getTime() / 1000, 0] : time.map(Number)));
  assert.ok(Math.abs(seconds - Date.now() / 1000) < 5 && microseconds < 1e6);
  assert.match(await t.redis.sendCommand(['LOLWUT']), /Redis ver/);
  assert.ok((await t.redis.lastSave()) > 0);
  assert.deepEqual(await t.redis.role().then(({ role, replicas }) => [role, replicas]), ['master', []]);
});

test('tools: MONITOR shows commands as they run', async (t) => {
  const monitor = await t.connect();
  const lines = [];
  await monitor.monitor((line) => lines.push(String(line)));
  await t.redis.set('k', 'a "quoted" value\n');
  await t.redis.eval('return redis.call("GET", KEYS[1])', { keys: ['k'] });
  await until('both are shown', () => lines.length >= 3);
  assert.match(lines[0], /^\d+\.\d{6} \[0 127\.0\.0\.1:\d+\] "SET" "k" "a \\"quoted\\" value\\n"$/);
  assert.match(lines[2], /^\d+\.\d{6} \[0 lua\] "GET" "k"$/);
});

test('clients: 200 connections come, work and go', async (t) => {
  const clients = await Promise.all(Array.from({ length: 200 }, () => t.connect()));
  await Promise.all(clients.map((client, n) => client.multi().incr('total').set(`mine:${n}`, 'x').exec()));
  assert.equal(await t.redis.get('total'), '200');
  assert.ok((await t.redis.clientList()).length > 200);
  await Promise.all(clients.map((client) => client.close()));
  await until('they are gone', async () => (await t.redis.clientList()).length < 20);
});
