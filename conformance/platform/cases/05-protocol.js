'use strict';
// RESP2 and RESP3 on the wire, HELLO, limits of the protocol.

const assert = require('node:assert/strict');
const { test, until } = require('../../lib/cases');
const { IORedis, resp3, flavour } = require('../context');

test('HELLO: the protocol this client asked for is spoken', async (t) => {
  await t.redis.ping();
  assert.match(await t.redis.client('INFO'), new RegExp(` resp=${resp3 ? 3 : 2}[ \\n]`));
});

test('HELLO: 3 answers a map, 2 an array, 4 an error', async (t) => {
  const raw = t.raw();
  raw.command('HELLO', '2');
  await until('the array', () => raw.received.endsWith('$7\r\nmodules\r\n*0\r\n'));
  assert.match(raw.received, /^\*14\r\n\$6\r/);
  raw.received = '';
  raw.command('HELLO', '3', 'SETNAME', 'wire');
  await until('the map', () => raw.received.endsWith('$7\r\nmodules\r\n*0\r\n'));
  assert.match(raw.received, /^%7\r\n\$6\r\nserver\r\n\$5\r\nredis\r\n\$7\r\nversion\r\n\$\d\r\n7\.\d+\.\d+\r\n\$5\r\nproto\r\n:3\r\n/);
  raw.received = '';
  raw.command('HELLO', '4');
  await raw.expect('-NOPROTO unsupported protocol version\r\n');
  raw.command('HELLO', 'x');
  await raw.expect('-ERR Protocol version is not an integer or out of range\r\n');
});

test('RESP3: the types of replies on the wire', async (t) => {
  const raw = t.raw();
  raw.command('HELLO', '3');
  await until('the map', () => raw.received.endsWith('$7\r\nmodules\r\n*0\r\n'));
  raw.received = '';
  const script = 'redis.setresp(3); return redis.call(unpack(ARGV))';
  for (const [words, reply] of [
    [['GET', 'none'], '_\r\n'],
    [['HSET', 'h', 'f', 'v'], ':1\r\n'],
    [['HGETALL', 'h'], '%1\r\n$1\r\nf\r\n$1\r\nv\r\n'],
    [['SADD', 's', 'm'], ':1\r\n'],
    [['SMEMBERS', 's'], '~1\r\n$1\r\nm\r\n'],
    [['ZADD', 'z', '1.5', 'm'], ':1\r\n'],
    [['ZSCORE', 'z', 'm'], ',1.5\r\n'],
    [['ZRANGE', 'z', '0', '-1', 'WITHSCORES'], '*1\r\n*2\r\n$1\r\nm\r\n,1.5\r\n'],
    [['BLPOP', 'none', '0.01'], '_\r\n'],
    [['LRANGE', 'none', '0', '-1'], '*0\r\n'],
    [['EVAL', script, '0', 'HGETALL', 'h'], '%1\r\n$1\r\nf\r\n$1\r\nv\r\n'],
    [['EVAL', 'return {double = 1.25}', '0'], ',1.25\r\n'],
    [['EVAL', 'redis.setresp(3); return true', '0'], '#t\r\n'],
    [['CONFIG', 'GET', 'databases'], '%1\r\n$9\r\ndatabases\r\n$2\r\n16\r\n'],
    [['SUBSCRIBE', 'c'], '>3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n'],
    [['PING'], '+PONG\r\n'],
    [['GET', 'none'], '_\r\n'],
  ]) {
    raw.command(...words);
    await raw.expect(reply).catch((error) => assert.fail(`${words.join(' ')}: ${error.message}`));
  }
  await t.redis.publish('c', 'hi');
  await raw.expect('>3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$2\r\nhi\r\n');
});

test('RESP2: the same replies on the wire', async (t) => {
  const raw = t.raw();
  for (const [words, reply] of [
    [['GET', 'none'], '$-1\r\n'],
    [['HSET', 'h', 'f', 'v'], ':1\r\n'],
    [['HGETALL', 'h'], '*2\r\n$1\r\nf\r\n$1\r\nv\r\n'],
    [['ZADD', 'z', '1.5', 'm'], ':1\r\n'],
    [['ZSCORE', 'z', 'm'], '$3\r\n1.5\r\n'],
    [['ZRANGE', 'z', '0', '-1', 'WITHSCORES'], '*2\r\n$1\r\nm\r\n$3\r\n1.5\r\n'],
    [['BLPOP', 'none', '0.01'], '*-1\r\n'],
    [['EVAL', 'return 42.9', '0'], ':42\r\n'],
    [['EVAL', 'return {1, "two", false, {3}}', '0'], '*4\r\n:1\r\n$3\r\ntwo\r\n$-1\r\n*1\r\n:3\r\n'],
    [['NOSUCH', 'a'], "-ERR unknown command 'NOSUCH', with args beginning with: 'a' \r\n"],
    [['GET'], "-ERR wrong number of arguments for 'get' command\r\n"],
    [['SUBSCRIBE', 'c'], '*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n'],
    [['GET', 'none'], "-ERR Can't execute 'get': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context\r\n"],
    [['PING'], '*2\r\n$4\r\npong\r\n$0\r\n\r\n'],
    [['RESET'], '+RESET\r\n'],
    [['PING'], '+PONG\r\n'],
  ]) {
    raw.command(...words);
    await raw.expect(reply).catch((error) => assert.fail(`${words.join(' ')}: ${error.message}`));
  }
});

test('protocol: inline commands and errors that close', async (t) => {
  const raw = t.raw();
  raw.send('SET "quoted key" \'a b\'\r\nGET "quoted key"\r\n\r\nECHO "\\x41\\n"\r\n');
  await raw.expect('+OK\r\n$3\r\na b\r\n$2\r\nA\n\r\n');
  for (const [bytes, reply] of [
    ['*1\r\nPING\r\n', "-ERR Protocol error: expected '$', got 'P'\r\n"],
    ['*3000000000\r\n', '-ERR Protocol error: invalid multibulk length\r\n'],
    ['*1\r\n$-5\r\n', '-ERR Protocol error: invalid bulk length\r\n'],
    ['GET "open\r\n', '-ERR Protocol error: unbalanced quotes in request\r\n'],
  ]) {
    const one = t.raw();
    one.send(bytes);
    await one.expect(reply);
    await until('it is closed', () => one.closed);
  }
});

if (flavour === '6') {
  test('RESP3 mapping: maps are objects, scores numbers', async (t) => {
    const client = t.connect({ protocol: 3, replyMapping: 'resp3' });
    assert.deepEqual({ ...(await client.config('GET', 'databases')) }, { databases: '16' });
    await client.zadd('z', 1.5, 'm');
    assert.equal(await client.zscore('z', 'm'), 1.5);
    await client.hset('h', 'a', '1');
    assert.deepEqual({ ...(await client.hgetall('h')) }, { a: '1' });
  });
}

test('RESET and SELECT inside one connection', async (t) => {
  const client = new IORedis(t.server.url);
  t.clients.push(client);
  await client.select(5);
  await client.set('k', '1');
  await client.select(0);
  assert.equal(await client.get('k'), null);
});
