'use strict';
// Databases by URL, passwords, key prefixes, names, closing, restarts, unix sockets.

const assert = require('node:assert/strict');
const fs = require('node:fs');
const path = require('node:path');
const { test, until } = require('../../lib/cases');
const { sleep } = require('../../lib/server');
const { IORedis, PLATFORM_OPTIONS } = require('../context');

test('databases: 0 to 15 by REDIS_URL, apart from each other', async (t) => {
  const clients = Array.from({ length: 16 }, (_, db) => t.connect({}, `${t.server.url}/${db}`));
  await Promise.all(clients.map((client, db) => client.set('where', `db ${db}`)));
  assert.deepEqual(await Promise.all(clients.map((client) => client.get('where'))), clients.map((_, db) => `db ${db}`));
  const info = await t.redis.info('keyspace');
  for (let db = 0; db < 16; db += 1) assert.ok(info.includes(`db${db}:keys=1,expires=0,avg_ttl=0`), `db${db} in ${info}`);
  await clients[3].flushdb();
  assert.equal(await clients[3].dbsize(), 0);
  assert.equal(await clients[4].dbsize(), 1);
  await assert.rejects(t.redis.select(16), /ERR DB index is out of range/);
  await clients[0].swapdb(1, 2);
  assert.equal(await clients[1].get('where'), 'db 2');
  assert.equal(await clients[5].move('where', 3), 1);
  assert.equal(await clients[3].get('where'), 'db 5');
});

test('databases: a reconnecting client is back in its database', async (t) => {
  const server = await t.start();
  const client = t.connect({}, `${server.url}/7`);
  await client.set('a', '1');
  await server.restart();
  await client.set('b', '2');
  const root = t.connect({}, server.url);
  assert.match(await root.info('keyspace'), /db7:keys=1/);
});

test('password: requirepass, by URL; wrong and missing', async (t) => {
  const server = await t.start('--requirepass', 's3cret:/?#');
  const url = (user, password) => `redis://${user}:${encodeURIComponent(password)}@127.0.0.1:${server.port}/2`;
  const client = t.connect({}, url('', 's3cret:/?#'));
  assert.equal(await client.set('k', 'v'), 'OK');
  const named = t.connect({}, url('default', 's3cret:/?#'));
  assert.equal(await named.get('k'), 'v');
  const wrong = new IORedis(url('', 'no'), { ...PLATFORM_OPTIONS, retryStrategy: null });
  const errors = [];
  wrong.on('error', (error) => errors.push(error.message));
  await wrong.get('k').catch((error) => errors.push(error.message));
  assert.ok(errors.some((text) => text.includes('WRONGPASS invalid username-password pair or user is disabled.')), `${errors}`);
  wrong.disconnect();
  const raw = t.raw(server);
  raw.command('GET', 'k');
  await raw.expect('-NOAUTH Authentication required.\r\n');
  raw.command('AUTH', 's3cret:/?#');
  await raw.expect('+OK\r\n');
  raw.command('GET', 'k');
  await raw.expect('$-1\r\n');
});

test('password: an ACL user with few rights', async (t) => {
  const server = await t.start('--requirepass', 'root');
  const admin = t.connect({ password: 'root' }, server.url);
  await admin.acl('SETUSER', 'app', 'on', '>pw', '~cache:*', '+@read', '+@write', '-@dangerous', '+info', '+client', '+hello');
  const client = t.connect({ username: 'app', password: 'pw' }, server.url);
  assert.equal(await client.set('cache:a', '1'), 'OK');
  await assert.rejects(client.set('other', '1'), /NOPERM/);
  await assert.rejects(client.flushall(), /NOPERM/);
  assert.equal(await client.acl('WHOAMI').catch((error) => error.message.slice(0, 6)), 'NOPERM');
});

test('keyPrefix: all kinds of commands are prefixed', async (t) => {
  const client = t.connect({ keyPrefix: 'app:' });
  await client.mset('a', '1', 'b', '2');
  await client.multi().lpush('list', 'x').zadd('z', 1, 'm').exec();
  await client.zunionstore('u', 1, 'z');
  await client.eval('return redis.call("SET", KEYS[1], ARGV[1])', 1, 'byscript', 'v');
  assert.deepEqual((await t.redis.keys('*')).sort(), ['app:a', 'app:b', 'app:byscript', 'app:list', 'app:u', 'app:z']);
  assert.deepEqual(await client.mget('a', 'b', 'c'), ['1', '2', null]);
  assert.equal(await client.del('a', 'b'), 2);
  const sorted = await t.redis.sort('app:list', 'ALPHA');
  assert.deepEqual(sorted, ['x']);
});

test('names: connectionName, SETNAME, GETNAME, LIST, INFO, ID', async (t) => {
  const client = t.connect({ connectionName: 'bull:YWdlbnQ=:w:x' }, `${t.server.url}/3`);
  assert.equal(await client.client('GETNAME'), 'bull:YWdlbnQ=:w:x');
  const id = await client.client('ID');
  const line = (await t.redis.client('LIST')).split('\n').find((text) => text.startsWith(`id=${id} `));
  const fields = Object.fromEntries(line.split(' ').map((pair) => [pair.slice(0, pair.indexOf('=')), pair.slice(pair.indexOf('=') + 1)]));
  assert.equal(fields.name, 'bull:YWdlbnQ=:w:x');
  assert.equal(fields.db, '3');
  assert.match(fields.addr, /^127\.0\.0\.1:\d+$/);
  assert.equal(fields.laddr, `127.0.0.1:${t.server.port}`);
  assert.equal(fields.user, 'default');
  for (const name of ['fd', 'age', 'idle', 'sub', 'psub', 'ssub', 'multi', 'qbuf', 'argv-mem', 'obl', 'tot-mem', 'redir', 'resp']) {
    assert.match(fields[name], /^-?\d+$/, name);
  }
  await assert.rejects(client.client('SETNAME', 'two words'), /Client names cannot contain spaces, newlines or special characters/);
  await client.client('SETNAME', '');
  assert.equal(await client.client('GETNAME'), null);
  assert.match(await client.client('INFO'), new RegExp(`^id=${id} `));
  assert.equal(await t.redis.client('KILL', 'ID', id), 1);
});

test('closing: QUIT, and a client that is killed comes back', async (t) => {
  const client = t.connect();
  assert.equal(await client.ping(), 'PONG');
  const id = await client.client('ID');
  await t.redis.client('KILL', 'ID', id);
  assert.notEqual(await client.client('ID'), id);
  assert.equal(await client.quit(), 'OK');
  await until('its socket is closed', () => client.status === 'end');
});

test('closing: a blocked client whose socket closes is gone at once and takes nothing', async (t) => {
  const raw = t.raw();
  raw.command('CLIENT', 'SETNAME', 'doomed');
  await raw.expect('+OK\r\n');
  for (const words of [['BLPOP', 'q', '0'], ['BRPOP', 'q', '0'], ['BZPOPMIN', 'z', '0'], ['XREAD', 'BLOCK', '0', 'STREAMS', 's', '$']]) {
    const one = t.raw();
    one.command(...words);
    await until(`${words[0]} waits`, async () => (await t.redis.info('clients')).includes('blocked_clients:1\r\n'));
    one.socket.destroy();
    await until(`${words[0]} is forgotten`, async () => (await t.redis.info('clients')).includes('blocked_clients:0\r\n'));
    assert.equal(await t.redis.lpush('q', 'x'), 1);
    assert.equal(await t.redis.llen('q'), 1, 'nobody took the element');
    await t.redis.flushall();
  }
  assert.match(await t.redis.client('LIST'), /name=doomed/);
  raw.socket.end();
  await until('the idle socket is forgotten', async () => !(await t.redis.client('LIST')).includes('name=doomed'));
});

test('restart: commands wait for the server; subscriptions and blocked clients come back', async (t) => {
  const server = await t.start();
  const client = t.connect({}, server.url);
  const subscriber = t.connect({}, server.url);
  const blocked = t.connect({}, server.url);
  const heard = [];
  subscriber.on('message', (channel, text) => heard.push(text));
  await subscriber.subscribe('news');
  const popping = blocked.blpop('queue', 0);
  await client.ping();
  await server.stop();
  const setting = client.set('k', 'while away');
  await sleep(100);
  await server.spawn();
  assert.equal(await setting, 'OK');
  await until('the subscriber is back', async () => (await client.pubsub('NUMSUB', 'news'))[1] > 0);
  await client.publish('news', 'again');
  await until('it hears', () => heard.includes('again'));
  await client.lpush('queue', 'x');
  assert.deepEqual(await popping, ['queue', 'x']);
});

test('unix socket', async (t) => {
  // A path of 108 bytes is the longest; the temporary directory is short enough.
  const probe = await t.start();
  const file = path.join(probe.dir, 's.sock');
  await t.start('--unixsocket', file, '--unixsocketperm', '700');
  assert.equal(fs.statSync(file).mode & 0o777, 0o700);
  const client = new IORedis(file, PLATFORM_OPTIONS);
  t.clients.push(client);
  assert.equal(await client.set('k', 'v'), 'OK');
  assert.equal(await client.get('k'), 'v');
  assert.match(await client.client('INFO'), /addr=.*s\.sock:0 /);
});

test('connections: 300 at once', async (t) => {
  const clients = Array.from({ length: 300 }, () => t.connect());
  const counts = await Promise.all(clients.map((client) => client.incr('hits')));
  assert.deepEqual(counts.sort((a, b) => a - b), clients.map((_, n) => n + 1));
});

test('INFO: what ioredis, BullMQ and dashboards parse', async (t) => {
  const info = await t.redis.info();
  const fields = Object.fromEntries(info.split('\r\n').filter((line) => line.includes(':')).map((line) => line.split(/:(.*)/s)));
  for (const section of ['Server', 'Clients', 'Memory', 'Persistence', 'Stats', 'Replication', 'CPU', 'Modules', 'Errorstats', 'Cluster', 'Keyspace']) {
    assert.ok(info.includes(`# ${section}\r\n`), section);
  }
  assert.match(fields.redis_version, /^7\.\d+\.\d+$/);
  assert.equal(fields.redis_mode, 'standalone');
  assert.equal(fields.tcp_port, String(t.server.port));
  assert.equal(fields.process_id, String(t.server.child.pid));
  assert.equal(fields.loading, '0');
  assert.equal(fields.role, 'master');
  assert.equal(fields.maxmemory_policy, 'noeviction');
  assert.match(fields.run_id, /^[0-9a-f]{40}$/);
  for (const name of ['uptime_in_seconds', 'connected_clients', 'blocked_clients', 'used_memory', 'used_memory_peak', 'maxmemory', 'total_system_memory', 'mem_fragmentation_ratio']) {
    assert.ok(Number.isFinite(Number(fields[name])) && fields[name] !== '', `${name}:${fields[name]}`);
  }
  assert.ok(Number(fields.used_memory) > 0);
});
