'use strict';
// Strings, hashes, lists, sets, sorted sets, bitmaps, HyperLogLogs and geo sets as an application stores them.

const assert = require('node:assert/strict');
const { test } = require('../../lib/cases');
const { sleep } = require('../../lib/server');

test('strings: set with options, get, counters, ranges', async (t) => {
  assert.equal(await t.redis.set('page', 'one', { EX: 60 }), 'OK');
  assert.ok((await t.redis.ttl('page')) > 55);
  assert.equal(await t.redis.set('page', 'two', { NX: true }), null);
  assert.equal(await t.redis.set('page', 'two', { XX: true, GET: true, KEEPTTL: true }), 'one');
  assert.ok((await t.redis.ttl('page')) > 55);
  assert.equal(await t.redis.get('page'), 'two');
  assert.equal(await t.redis.get('absent'), null);
  assert.equal(await t.redis.incr('hits'), 1);
  assert.equal(await t.redis.incrBy('hits', 41), 42);
  assert.equal(await t.redis.decrBy('hits', 2), 40);
  assert.equal(await t.redis.incrByFloat('price', 10.5), '10.5');
  assert.equal(await t.redis.incrByFloat('price', 0.1), '10.6');
  await assert.rejects(t.redis.incr('page'), /ERR value is not an integer or out of range/);
  assert.equal(await t.redis.append('page', ' and more'), 12);
  assert.equal(await t.redis.getRange('page', 4, 6), 'and');
  assert.equal(await t.redis.setRange('page', 0, 'TWO'), 12);
  assert.equal(await t.redis.strLen('page'), 12);
  assert.equal(await t.redis.mSet({ a: '1', b: '2' }), 'OK');
  assert.deepEqual(await t.redis.mGet(['a', 'nothing', 'b']), ['1', null, '2']);
  assert.equal(Number(await t.redis.mSetNX({ b: '3', c: '4' })), 0);
  assert.equal(await t.redis.getDel('a'), '1');
  assert.equal(await t.redis.getEx('b', { type: 'PX', value: 50 }), '2');
  await sleep(80);
  assert.equal(await t.redis.exists(['a', 'b', 'hits', 'hits']), 2);
});

test('strings: bytes of every value in keys and values', async (t) => {
  const bytes = Buffer.from(Array.from({ length: 256 }, (_, n) => n));
  await t.redis.set(bytes, bytes);
  assert.equal(await t.redis.strLen(bytes), 256);
  assert.equal(await t.redis.get(bytes), bytes.toString());
  const big = 'é'.repeat(600_000);
  await t.redis.set('big', big);
  assert.equal(await t.redis.get('big'), big);
  assert.equal(await t.redis.strLen('big'), 1_200_000);
});

test('strings: LCS in its forms', async (t) => {
  await t.redis.mSet({ x: 'ohmytext', y: 'mynewtext' });
  assert.equal(await t.redis.lcs('x', 'y'), 'mytext');
  assert.equal(await t.redis.lcsLen('x', 'y'), 6);
  const { matches, len } = await t.redis.lcsIdx('x', 'y');
  assert.equal(len, 6);
  assert.deepEqual(matches, [[[4, 7], [5, 8]], [[2, 3], [0, 1]]]);
});

test('hashes: objects', async (t) => {
  assert.equal(await t.redis.hSet('user:1', { name: 'Ada', born: 1815, city: 'London' }), 3);
  assert.equal(await t.redis.hSet('user:1', 'city', 'Paris'), 0);
  assert.deepEqual({ ...(await t.redis.hGetAll('user:1')) }, { name: 'Ada', born: '1815', city: 'Paris' });
  assert.deepEqual({ ...(await t.redis.hGetAll('user:2')) }, {});
  assert.deepEqual(await t.redis.hmGet('user:1', ['name', 'phone']), ['Ada', null]);
  assert.equal(await t.redis.hIncrBy('user:1', 'born', 1), 1816);
  assert.equal(await t.redis.hIncrByFloat('user:1', 'height', 1.6), '1.6');
  assert.deepEqual((await t.redis.hKeys('user:1')).sort(), ['born', 'city', 'height', 'name']);
  assert.equal(Number(await t.redis.hExists('user:1', 'phone')), 0);
  assert.equal(await t.redis.hStrLen('user:1', 'city'), 5);
  assert.equal(Number(await t.redis.hSetNX('user:1', 'name', 'Eve')), 0);
  assert.equal(await t.redis.hDel('user:1', ['city', 'phone']), 1);
  const { cursor, entries } = await t.redis.hScan('user:1', '0', { COUNT: 100 });
  assert.equal(String(cursor), '0');
  assert.deepEqual(entries.map(({ field }) => field).sort(), ['born', 'height', 'name']);
  const random = await t.redis.hRandFieldCountWithValues('user:1', 3);
  assert.deepEqual(random.map(({ field }) => field).sort(), ['born', 'height', 'name']);
  assert.equal(random.find(({ field }) => field === 'name').value, 'Ada');
});

test('hashes: many fields, over every threshold', async (t) => {
  const fields = Object.fromEntries(Array.from({ length: 2000 }, (_, n) => [`field-${n}`, `value ${n}`]));
  assert.equal(await t.redis.hSet('wide', fields), 2000);
  assert.deepEqual({ ...(await t.redis.hGetAll('wide')) }, fields);
  assert.equal(await t.redis.objectEncoding('wide'), 'hashtable');
  const found = new Set();
  for await (const entries of t.redis.hScanIterator('wide', { MATCH: 'field-1*' })) {
    for (const { field, value } of entries) {
      found.add(field);
      assert.equal(value, fields[field]);
    }
  }
  assert.equal(found.size, Object.keys(fields).filter((field) => field.startsWith('field-1')).length);
});

test('lists: a stack, a queue, a log', async (t) => {
  assert.equal(await t.redis.rPush('queue', ['a', 'b', 'c']), 3);
  assert.equal(await t.redis.lPush('queue', 'z'), 4);
  assert.deepEqual(await t.redis.lRange('queue', 0, -1), ['z', 'a', 'b', 'c']);
  assert.equal(await t.redis.lInsert('queue', 'BEFORE', 'b', 'between'), 5);
  assert.equal(await t.redis.lIndex('queue', -2), 'b');
  assert.equal(await t.redis.lPos('queue', 'b'), 3);
  assert.deepEqual(await t.redis.lPosCount('queue', 'b', 0), [3]);
  assert.equal(await t.redis.lSet('queue', 0, 'y'), 'OK');
  await assert.rejects(t.redis.lSet('queue', 99, 'x'), /ERR index out of range/);
  await assert.rejects(t.redis.lSet('nothing', 0, 'x'), /ERR no such key/);
  assert.equal(await t.redis.lPop('queue'), 'y');
  assert.deepEqual(await t.redis.rPopCount('queue', 2), ['c', 'b']);
  assert.equal(await t.redis.lMove('queue', 'done', 'LEFT', 'RIGHT'), 'a');
  assert.equal(await t.redis.rPopLPush('queue', 'done'), 'between');
  assert.equal(await t.redis.lPop('queue'), null);
  assert.deepEqual(await t.redis.lRange('done', 0, -1), ['between', 'a']);
  assert.deepEqual(await t.redis.lmPop(['queue', 'done'], 'RIGHT', { COUNT: 5 }), ['done', ['a', 'between']]);
  assert.equal(await t.redis.lmPop(['queue', 'done'], 'RIGHT'), null);
  for (let n = 0; n < 300; n += 1) await t.redis.multi().lPush('log', `line ${n}`).lTrim('log', 0, 99).exec();
  assert.equal(await t.redis.lLen('log'), 100);
  assert.equal(await t.redis.lIndex('log', 99), 'line 200');
  assert.equal(await t.redis.lRem('log', 0, 'line 250'), 1);
});

test('sets: tags and their algebra', async (t) => {
  assert.equal(await t.redis.sAdd('a', ['1', '2', '3', 'x']), 4);
  assert.equal(await t.redis.sAdd('b', ['2', '3', '4']), 3);
  assert.equal(Number(await t.redis.sIsMember('a', 'x')), 1);
  assert.deepEqual((await t.redis.smIsMember('a', ['1', '9'])).map(Number), [1, 0]);
  assert.deepEqual([...(await t.redis.sInter(['a', 'b']))].sort(), ['2', '3']);
  assert.equal(await t.redis.sInterCard(['a', 'b'], { LIMIT: 1 }), 1);
  assert.deepEqual([...(await t.redis.sUnion(['a', 'b']))].sort(), ['1', '2', '3', '4', 'x']);
  assert.deepEqual([...(await t.redis.sDiff(['a', 'b']))].sort(), ['1', 'x']);
  assert.equal(await t.redis.sUnionStore('all', ['a', 'b', 'none']), 5);
  assert.equal(Number(await t.redis.sMove('a', 'b', 'x')), 1);
  assert.deepEqual([...(await t.redis.sMembers('a'))].sort(), ['1', '2', '3']);
  const popped = [...(await t.redis.sPopCount('all', 2))];
  assert.equal(popped.length, 2);
  assert.equal(await t.redis.sCard('all'), 3);
  assert.equal([...(await t.redis.sRandMemberCount('all', -10))].length, 10);
  assert.equal(await t.redis.sRem('all', popped), 0);
  const members = [];
  for await (const batch of t.redis.sScanIterator('b')) members.push(...batch);
  assert.deepEqual(members.sort(), ['2', '3', '4', 'x']);
});

test('sorted sets: a leaderboard', async (t) => {
  const players = [{ score: 10, value: 'ann' }, { score: 20.5, value: 'bob' }, { score: 30, value: 'cyd' }];
  assert.equal(await t.redis.zAdd('board', players), 3);
  assert.equal(await t.redis.zAdd('board', { score: 5, value: 'ann' }, { GT: true, CH: true }), 0);
  assert.equal(await t.redis.zAdd('board', { score: 25, value: 'ann' }, { comparison: 'GT', CH: true }), 1);
  assert.equal(await t.redis.zIncrBy('board', 0.25, 'bob'), 20.75);
  assert.equal(await t.redis.zScore('board', 'bob'), 20.75);
  assert.equal(await t.redis.zScore('board', 'eve'), null);
  assert.deepEqual(await t.redis.zmScore('board', ['ann', 'eve']), [25, null]);
  assert.deepEqual(await t.redis.zRangeWithScores('board', 0, -1), [
    { value: 'bob', score: 20.75 },
    { value: 'ann', score: 25 },
    { value: 'cyd', score: 30 },
  ]);
  assert.deepEqual(await t.redis.zRange('board', 0, 1, { REV: true }), ['cyd', 'ann']);
  assert.deepEqual(await t.redis.zRange('board', '(20.75', '+inf', { BY: 'SCORE', LIMIT: { offset: 0, count: 1 } }), ['ann']);
  assert.equal(await t.redis.zRank('board', 'ann'), 1);
  assert.equal(await t.redis.zRevRank('board', 'ann'), 1);
  assert.equal(await t.redis.zRank('board', 'eve'), null);
  assert.equal(await t.redis.zCount('board', 20, '(30'), 2);
  await t.redis.zAdd('extra', [{ score: 1, value: 'ann' }, { score: Infinity, value: 'top' }, { score: -Infinity, value: 'low' }]);
  assert.equal(await t.redis.zUnionStore('sum', ['board', 'extra']), 5);
  assert.deepEqual(await t.redis.zRangeWithScores('sum', 0, 0), [{ value: 'low', score: -Infinity }]);
  assert.equal(await t.redis.zScore('sum', 'ann'), 26);
  assert.deepEqual(await t.redis.zInterWithScores(['board', 'extra']), [{ value: 'ann', score: 26 }]);
  assert.deepEqual(await t.redis.zPopMax('sum'), { value: 'top', score: Infinity });
  assert.deepEqual(await t.redis.zPopMinCount('sum', 2), [{ value: 'low', score: -Infinity }, { value: 'bob', score: 20.75 }]);
  assert.equal(await t.redis.zPopMin('none'), null);
  assert.deepEqual(await t.redis.zmPop(['none', 'extra'], 'MIN'), { key: 'extra', members: [{ value: 'low', score: -Infinity }] });
  assert.equal(await t.redis.zRemRangeByScore('board', '-inf', 25), 2);
  assert.equal(await t.redis.zCard('board'), 1);
});

test('sorted sets: by member, and many of them', async (t) => {
  const words = Array.from({ length: 500 }, (_, n) => ({ score: 0, value: `word-${String(n).padStart(3, '0')}` }));
  await t.redis.zAdd('words', words);
  assert.equal(await t.redis.objectEncoding('words'), 'skiplist');
  assert.deepEqual(await t.redis.zRange('words', '[word-100', '(word-103', { BY: 'LEX' }), ['word-100', 'word-101', 'word-102']);
  assert.equal(await t.redis.zLexCount('words', '-', '[word-099'), 100);
  assert.equal(await t.redis.zRemRangeByLex('words', '[word-400', '+'), 100);
  const seen = [];
  for await (const batch of t.redis.zScanIterator('words', { COUNT: 50 })) seen.push(...batch.map(({ value }) => value));
  assert.equal(new Set(seen).size, 400);
  assert.deepEqual(await t.redis.zDiff(['words', 'none']), await t.redis.zRange('words', 0, -1));
});

test('bitmaps and bit fields: who was here today', async (t) => {
  for (const user of [1, 7, 7, 4000]) await t.redis.setBit('today', user, 1);
  assert.equal(await t.redis.getBit('today', 7), 1);
  assert.equal(await t.redis.bitCount('today'), 3);
  assert.equal(await t.redis.bitCount('today', { start: 0, end: 7, mode: 'BIT' }), 2);
  assert.equal(await t.redis.bitPos('today', 1), 1);
  await t.redis.setBit('yesterday', 7, 1);
  assert.equal(await t.redis.bitOp('AND', 'both', ['today', 'yesterday']), 501);
  assert.equal(await t.redis.bitCount('both'), 1);
  const replies = await t.redis.bitField('fields', [
    { operation: 'SET', encoding: 'u8', offset: 0, value: 250 },
    { operation: 'OVERFLOW', behavior: 'SAT' },
    { operation: 'INCRBY', encoding: 'u8', offset: 0, increment: 10 },
    { operation: 'OVERFLOW', behavior: 'FAIL' },
    { operation: 'INCRBY', encoding: 'u8', offset: 0, increment: 1 },
    { operation: 'GET', encoding: 'i8', offset: '#0' },
  ]);
  assert.deepEqual(replies, [0, 255, null, -1]);
});

test('HyperLogLogs: distinct visitors', async (t) => {
  for (let n = 0; n < 10; n += 1) {
    await t.redis.pfAdd(`visitors:${n % 2}`, Array.from({ length: 200 }, (_, k) => `visitor ${n * 100 + k}`));
  }
  await t.redis.pfMerge('visitors', ['visitors:0', 'visitors:1']);
  for (const [key, real] of [['visitors:0', 1000], ['visitors', 1100]]) {
    const counted = await t.redis.pfCount(key);
    assert.ok(Math.abs(counted - real) / real < 0.03, `${key}: ${counted}`);
  }
  assert.equal(Number(await t.redis.pfAdd('visitors', 'visitor 5')), 0);
});

test('geo: places near by', async (t) => {
  await t.redis.geoAdd('Sicily', [
    { member: 'Palermo', longitude: '13.361389', latitude: '38.115556' },
    { member: 'Catania', longitude: '15.087269', latitude: '37.502669' },
  ]);
  assert.equal(Number(await t.redis.geoDist('Sicily', 'Palermo', 'Catania', 'km')), 166.2742);
  assert.deepEqual(await t.redis.geoHash('Sicily', ['Palermo', 'nowhere']), ['sqc8b49rny0', null]);
  const [position, none] = await t.redis.geoPos('Sicily', ['Catania', 'nowhere']);
  assert.ok(Math.abs(Number(position.longitude) - 15.087269) < 1e-5);
  assert.equal(none, null);
  const near = await t.redis.geoSearch('Sicily', { longitude: 15, latitude: 37 }, { radius: 200, unit: 'km' }, { SORT: 'ASC' });
  assert.deepEqual(near, ['Catania', 'Palermo']);
  const details = await t.redis.geoSearchWith('Sicily', 'Palermo', { width: 400, height: 400, unit: 'km' }, ['WITHDIST', 'WITHCOORD'], { SORT: 'DESC' });
  assert.deepEqual(details.map(({ member, distance }) => [member, Number(distance)]), [['Catania', 166.2742], ['Palermo', 0]]);
});

test('keys: expiry, rename, copy, types, dump and restore, sort', async (t) => {
  await t.redis.set('k', 'v');
  assert.equal(await t.redis.ttl('k'), -1);
  assert.equal(await t.redis.ttl('none'), -2);
  assert.equal(Number(await t.redis.expire('k', 100)), 1);
  assert.equal(Number(await t.redis.expire('k', 50, 'GT')), 0);
  const at = Math.floor(Date.now() / 1000) + 500;
  assert.equal(Number(await t.redis.expireAt('k', at)), 1);
  assert.equal(Number(await t.redis.expireTime('k')), at);
  assert.equal(Number(await t.redis.persist('k')), 1);
  assert.equal(Number(await t.redis.copy('k', 'copy')), 1);
  assert.equal(await t.redis.rename('k', 'renamed'), 'OK');
  assert.equal(Number(await t.redis.renameNX('renamed', 'copy')), 0);
  await assert.rejects(t.redis.rename('k', 'other'), /ERR no such key/);
  await t.redis.rPush('numbers', ['10', '9', '100']);
  assert.deepEqual(await t.redis.sort('numbers'), ['9', '10', '100']);
  assert.deepEqual(await t.redis.sort('numbers', { DIRECTION: 'DESC', LIMIT: { offset: 0, count: 2 } }), ['100', '10']);
  assert.equal(await t.redis.sortStore('numbers', 'sorted', { ALPHA: true }), 3);
  assert.deepEqual(await t.redis.lRange('sorted', 0, -1), ['10', '100', '9']);
  assert.deepEqual(await Promise.all(['copy', 'numbers', 'none'].map((key) => t.redis.type(key))), ['string', 'list', 'none']);
  const bytes = t.redis.withTypeMapping({ 36: Buffer });
  const payload = await bytes.dump('numbers');
  assert.ok(Buffer.isBuffer(payload));
  assert.equal(await t.redis.restore('again', 5000, payload), 'OK');
  await assert.rejects(t.redis.restore('again', 0, payload), /BUSYKEY Target key name already exists/);
  assert.deepEqual(await t.redis.lRange('again', 0, -1), ['10', '9', '100']);
  assert.ok((await t.redis.pTTL('again')) > 4000);
  payload[payload.length - 1] ^= 1;
  await assert.rejects(t.redis.restore('broken', 0, payload), /ERR DUMP payload version or checksum are wrong/);
  assert.equal(await t.redis.touch(['again', 'none']), 1);
  assert.equal(await t.redis.unlink(['again', 'none', 'copy']), 2);
  assert.ok(['numbers', 'renamed', 'sorted'].includes(await t.redis.randomKey()));
});

test('keys: scanIterator finds each of 3000, by pattern and by type', async (t) => {
  await Promise.all(Array.from({ length: 3000 }, (_, n) => t.redis.set(`scan:${n}`, n)));
  await t.redis.hSet('scan:hash', 'f', 'v');
  const collect = async (options) => {
    const found = new Set();
    for await (const keys of t.redis.scanIterator(options)) for (const key of keys) found.add(key);
    return found;
  };
  assert.equal((await collect({})).size, 3001);
  assert.equal((await collect({ MATCH: 'scan:1?', COUNT: 7 })).size, 10);
  assert.deepEqual([...(await collect({ TYPE: 'hash' }))], ['scan:hash']);
  assert.equal((await t.redis.keys('scan:29??')).length, 100);
  assert.equal(await t.redis.dbSize(), 3001);
});
