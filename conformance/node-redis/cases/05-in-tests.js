'use strict';
// In place of ioredis-mock, redis-mock and fakeredis: a server for each test process, by redis-memory-server or by hand.

const assert = require('node:assert/strict');
const { spawn, execFileSync } = require('node:child_process');
const path = require('node:path');
const { RedisMemoryServer } = require('redis-memory-server');
const { test, until } = require('../../lib/cases');

/** `SERVER` as a path, as redis-memory-server wants it. */
function binary() {
  const name = process.env.SERVER || 'redis-server';
  return name.includes('/') ? path.resolve(name) : execFileSync('sh', ['-c', `command -v ${name}`], { encoding: 'utf8' }).trim();
}

test('in tests: redis-memory-server starts this binary, on a free port, and stops it', async (t) => {
  const memory = new RedisMemoryServer({ binary: { systemBinary: binary() } });
  try {
    const url = `redis://${await memory.getHost()}:${await memory.getPort()}`;
    const client = await t.connect({ url });
    assert.equal(await client.set('k', 'v'), 'OK');
    assert.equal(await client.get('k'), 'v');
    client.destroy();
  } finally {
    await memory.stop();
  }
  assert.ok(t.errors.length === 0, String(t.errors[0]));
});

test('in tests: four servers on unix sockets, without a port, apart from each other', async (t) => {
  const children = [];
  try {
    const clients = await Promise.all([0, 1, 2, 3].map(async (worker) => {
      const socket = path.join(t.server.dir, `worker-${worker}.sock`);
      children.push(spawn(binary(), ['--port', '0', '--unixsocket', socket, '--save', '', '--appendonly', 'no', '--dir', t.server.dir], { stdio: 'ignore' }));
      return t.connect({ url: undefined, socket: { path: socket, reconnectStrategy: 10 } });
    }));
    await Promise.all(clients.map((client, worker) => client.set('mine', String(worker))));
    assert.deepEqual(await Promise.all(clients.map((client) => client.get('mine'))), ['0', '1', '2', '3']);
    await clients[0].flushAll();
    assert.deepEqual(await Promise.all(clients.map((client) => client.dbSize())), [0, 1, 1, 1]);
  } finally {
    for (const child of children) child.kill('SIGKILL');
  }
});

test('in tests: FLUSHALL between tests leaves no key behind', async (t) => {
  for (let round = 0; round < 50; round += 1) {
    await t.redis.flushAll();
    assert.equal(await t.redis.dbSize(), 0);
    await Promise.all([
      t.redis.set('a', round),
      t.redis.zAdd('z', { score: 1, value: 'm' }),
      t.redis.xAdd('s', '1-1', { n: String(round) }),
      t.redis.eval('return redis.call("HSET", KEYS[1], "f", "v")', { keys: ['h'] }),
    ]);
    assert.equal(await t.redis.dbSize(), 4);
  }
});

test('in tests: what the mocks do not have', async (t) => {
  const r = t.redis;
  const other = await t.connect();
  const popped = other.blPop('q', 60);
  await until('it waits', async () => /blocked_clients:1\r/.test(await r.info('clients')));
  await r.rPush('q', 'x');
  assert.equal((await popped).element, 'x');
  assert.equal(await other.bzPopMin('z', 0.01), null);
  assert.ok((await r.clientId()) > 0);
  assert.match(await r.scriptLoad('return 1'), /^[0-9a-f]{40}$/);
  assert.equal(await r.xGroupCreate('s', 'g', '$', { MKSTREAM: true }), 'OK');
  assert.equal(await r.xReadGroup('g', 'c', { key: 's', id: '>' }), null);
  assert.deepEqual((await r.xAutoClaim('s', 'g', 'c', 0, '0')).messages, []);
  assert.equal(await r.eval('return cmsgpack.unpack(cmsgpack.pack(7))'), 7);
  assert.equal(await r.sendCommand(['SELECT', '2']), 'OK');
  assert.equal(await r.sendCommand(['RESET']), 'RESET');
});
