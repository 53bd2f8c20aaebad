'use strict';
// The platform's own uses: notification dedup, rate limit, sessions, activity lock, Redlock.

const assert = require('node:assert/strict');
const { randomUUID } = require('node:crypto');
const { test } = require('../../lib/cases');
const { sleep } = require('../../lib/server');

test('dedup: SETEX for a day, told once', async (t) => {
  const seen = async (id) => {
    const key = `notification:dedup:${id}`;
    if (await t.redis.exists(key)) return true;
    await t.redis.setex(key, 86_400, '1');
    return false;
  };
  assert.equal(await seen('welcome:42'), false);
  assert.equal(await seen('welcome:42'), true);
  assert.equal(await seen('welcome:43'), false);
  const ttl = await t.redis.ttl('notification:dedup:welcome:42');
  assert.ok(ttl >= 86_340 && ttl <= 86_400, `ttl ${ttl}`);
  const pttl = await t.redis.pttl('notification:dedup:welcome:42');
  assert.ok(pttl > 86_340_000 && pttl <= 86_400_000, `pttl ${pttl}`);
});

test('dedup: SET NX EX is atomic among 50 clients', async (t) => {
  const clients = Array.from({ length: 50 }, () => t.connect());
  const replies = await Promise.all(clients.map((client, n) => client.set('notification:once', n, 'EX', 86_400, 'NX')));
  assert.equal(replies.filter((reply) => reply === 'OK').length, 1);
  assert.equal(replies.filter((reply) => reply === null).length, 49);
});

/** INCR and EXPIRE, as the platform limits its API: `max` calls a window. */
async function allowed(redis, key, max, windowS) {
  const count = await redis.incr(key);
  if (count === 1) await redis.expire(key, windowS);
  return count <= max;
}

test('rate limit: the eleventh call within 60 s fails', async (t) => {
  const key = 'ratelimit:user-1:generate';
  for (let n = 1; n <= 10; n += 1) assert.equal(await allowed(t.redis, key, 10, 60), true, `call ${n}`);
  assert.equal(await allowed(t.redis, key, 10, 60), false);
  const ttl = await t.redis.ttl(key);
  assert.ok(ttl >= 55 && ttl <= 60, `ttl ${ttl}`);
  assert.equal(await allowed(t.redis, 'ratelimit:user-2:generate', 10, 60), true, 'another user');
});

test('rate limit: the window reopens', async (t) => {
  const key = 'ratelimit:user-1:short';
  for (let n = 1; n <= 10; n += 1) assert.equal(await allowed(t.redis, key, 10, 60), true);
  assert.equal(await allowed(t.redis, key, 10, 60), false);
  await t.redis.pexpire(key, 20);
  await sleep(50);
  assert.equal(await allowed(t.redis, key, 10, 60), true);
  assert.equal(await t.redis.get(key), '1');
});

test('rate limit: a sliding window in a sorted set, by script', async (t) => {
  t.redis.defineCommand('slide', {
    numberOfKeys: 1,
    lua: `
      local now = tonumber(ARGV[1])
      redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[2])
      local count = redis.call('ZCARD', KEYS[1])
      if count >= tonumber(ARGV[3]) then
        local oldest = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
        return {0, tonumber(oldest[2]) + ARGV[2] - now}
      end
      redis.call('ZADD', KEYS[1], now, ARGV[4])
      redis.call('PEXPIRE', KEYS[1], ARGV[2])
      return {1, tonumber(ARGV[3]) - count - 1}`,
  });
  const now = 1_790_000_000_000;
  for (let n = 0; n < 10; n += 1) assert.deepEqual(await t.redis.slide('slide:1', now + n, 60_000, 10, `id${n}`), [1, 9 - n]);
  assert.deepEqual(await t.redis.slide('slide:1', now + 500, 60_000, 10, 'id10'), [0, 59_500]);
  assert.deepEqual(await t.redis.slide('slide:1', now + 60_000, 60_000, 10, 'id11'), [1, 0]);
  assert.ok((await t.redis.pttl('slide:1')) > 59_000);
});

test('sessions: JSON with sliding expiry, listed by user, ended', async (t) => {
  const id = randomUUID();
  const session = { user: 7, roles: ['admin', 'éditeur'], csrf: null };
  await t.redis.multi().set(`session:${id}`, JSON.stringify(session), 'EX', 3600).sadd('user:7:sessions', id).exec();
  assert.deepEqual(JSON.parse(await t.redis.get(`session:${id}`)), session);
  await t.redis.expire(`session:${id}`, 10);
  assert.deepEqual(JSON.parse(await t.redis.getex(`session:${id}`, 'EX', 3600)), session);
  assert.ok((await t.redis.ttl(`session:${id}`)) > 3590);
  assert.deepEqual(await t.redis.smembers('user:7:sessions'), [id]);
  assert.equal(await t.redis.set(`session:${id}`, '{}', 'KEEPTTL', 'GET'), JSON.stringify(session));
  assert.ok((await t.redis.ttl(`session:${id}`)) > 3590);
  assert.equal(await t.redis.getdel(`session:${id}`), '{}');
  assert.equal(await t.redis.srem('user:7:sessions', id), 1);
  assert.equal(await t.redis.exists(`session:${id}`, 'user:7:sessions'), 0);
});

test('sessions: fields in a hash, expired by the clock', async (t) => {
  await t.redis.hset('session:h', { user: '7', seen: '0', 'träger': 'x' });
  assert.equal(await t.redis.hincrby('session:h', 'seen', 5), 5);
  assert.equal(await t.redis.pexpire('session:h', 60_000), 1);
  assert.deepEqual(await t.redis.hgetall('session:h'), { user: '7', seen: '5', 'träger': 'x' });
  assert.equal(await t.redis.pexpire('session:h', 20), 1);
  await sleep(50);
  assert.deepEqual(await t.redis.hgetall('session:h'), {});
  assert.equal(await t.redis.ttl('session:h'), -2);
});

const RELEASE = `if redis.call("get", KEYS[1]) == ARGV[1] then return redis.call("del", KEYS[1]) else return 0 end`;
const EXTEND = `if redis.call("get", KEYS[1]) == ARGV[1] then return redis.call("pexpire", KEYS[1], ARGV[2]) else return 0 end`;

test('activity lock: SET NX PX, released only by its owner', async (t) => {
  const key = 'activity:lock:post-9';
  assert.equal(await t.redis.set(key, 'me', 'PX', 15_000, 'NX'), 'OK');
  assert.equal(await t.redis.set(key, 'you', 'PX', 15_000, 'NX'), null);
  assert.equal(await t.redis.eval(RELEASE, 1, key, 'you'), 0);
  assert.equal(await t.redis.eval(EXTEND, 1, key, 'me', 60_000), 1);
  assert.ok((await t.redis.pttl(key)) > 15_000);
  assert.equal(await t.redis.eval(RELEASE, 1, key, 'me'), 1);
  assert.equal(await t.redis.set(key, 'you', 'PX', 100, 'NX'), 'OK');
  await sleep(150);
  assert.equal(await t.redis.set(key, 'me', 'PX', 100, 'NX'), 'OK', 'a lock that ran out is free');
});

test('activity lock: 20 clients count under it, none is lost', async (t) => {
  const key = 'activity:lock:counter';
  const work = async (client, token) => {
    while ((await client.set(key, token, 'PX', 10_000, 'NX')) === null) await sleep(2);
    const value = Number(await client.get('counter'));
    await client.set('counter', value + 1);
    assert.equal(await client.eval(RELEASE, 1, key, token), 1);
  };
  await Promise.all(Array.from({ length: 20 }, (_, n) => work(t.connect(), `token-${n}`)));
  assert.equal(await t.redis.get('counter'), '20');
});

/** Redlock's algorithm: the lock holds when a majority of servers gave it within its life. */
class Redlock {
  constructor(clients) {
    this.clients = clients;
    this.quorum = Math.floor(clients.length / 2) + 1;
  }

  async acquire(resource, ttlMs) {
    const token = randomUUID();
    const began = Date.now();
    const votes = await Promise.all(this.clients.map((client) => client.set(resource, token, 'PX', ttlMs, 'NX').catch(() => null)));
    const drift = Math.round(ttlMs * 0.01) + 2;
    const validity = ttlMs - (Date.now() - began) - drift;
    if (votes.filter((vote) => vote === 'OK').length >= this.quorum && validity > 0) return { token, validity };
    await this.release(resource, token);
    return null;
  }

  async release(resource, token) {
    const replies = await Promise.all(this.clients.map((client) => client.eval(RELEASE, 1, resource, token).catch(() => 0)));
    return replies.reduce((sum, reply) => sum + reply, 0);
  }
}

for (const count of [1, 3]) {
  test(`redlock: over ${count} server${count > 1 ? 's' : ''}`, async (t) => {
    const servers = await Promise.all(Array.from({ length: count }, () => t.start()));
    const lockers = Array.from({ length: 5 }, () => new Redlock(servers.map((server) => t.connect({}, server.url))));
    const first = await lockers[0].acquire('locks:report', 60_000);
    assert.ok(first.validity > 30_000);
    assert.equal(await lockers[1].acquire('locks:report', 60_000), null);
    assert.equal(await lockers[1].release('locks:report', 'a foreign token'), 0);
    assert.equal(await lockers[0].release('locks:report', first.token), count);
    const races = await Promise.all(lockers.map((locker) => locker.acquire('locks:race', 60_000)));
    assert.ok(races.filter(Boolean).length <= 1, 'never two holders');
    assert.ok(await lockers[2].acquire('locks:short', 1000));
    await sleep(1050);
    assert.ok(await lockers[3].acquire('locks:short', 200), 'it ran out');
  });
}

test('redlock: one of three servers away', async (t) => {
  const servers = await Promise.all([t.start(), t.start(), t.start()]);
  // Here a server that is away must fail at once instead of waiting for it.
  const clients = servers.map((server) => t.connect({ maxRetriesPerRequest: 0, enableOfflineQueue: false, lazyConnect: false }, server.url));
  await Promise.all(clients.map((client) => new Promise((resolve) => client.once('ready', resolve))));
  await servers[1].stop();
  const locker = new Redlock(clients);
  const lock = await locker.acquire('locks:report', 60_000);
  assert.ok(lock, 'two of three are a majority');
  assert.equal(await locker.release('locks:report', lock.token), 2);
  await servers[2].stop();
  assert.equal(await locker.acquire('locks:report', 60_000), null, 'one of three is none');
});
