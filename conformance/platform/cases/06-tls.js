'use strict';
// rediss://: certificates made by openssl for the run, mutual authentication, both ports, new files while running.

const assert = require('node:assert/strict');
const { execFileSync, spawnSync } = require('node:child_process');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { test, until } = require('../../lib/cases');
const { freePort } = require('../../lib/server');
const { IORedis, PLATFORM_OPTIONS } = require('../context');

const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'conformance-tls-'));
process.on('exit', () => fs.rmSync(folder, { recursive: true, force: true }));
const file = (name) => path.join(folder, name);
const openssl = (...words) => execFileSync('openssl', words, { stdio: ['ignore', 'ignore', 'pipe'], cwd: folder });

function makeAuthority(name) {
  openssl('req', '-x509', '-new', '-nodes', '-newkey', 'rsa:2048', '-sha256', '-days', '2', '-subj', `/O=Conformance/CN=${name}`,
    '-keyout', `${name}.key`, '-out', `${name}.crt`);
}

function issue(name, authority, hasExtensions = true) {
  fs.writeFileSync(file('extensions'), 'subjectAltName = DNS:localhost, IP:127.0.0.1\n');
  openssl('req', '-new', '-nodes', '-newkey', 'rsa:2048', '-sha256', '-subj', `/O=Conformance/CN=${name}`, '-keyout', `${name}.key`,
    '-out', `${name}.csr`);
  openssl('x509', '-req', '-sha256', '-days', '2', '-in', `${name}.csr`, '-CA', `${authority}.crt`, '-CAkey', `${authority}.key`,
    '-CAcreateserial', ...(hasExtensions ? ['-extfile', 'extensions'] : []), '-out', `${name}.crt`);
}

function makeFiles() {
  if (fs.existsSync(file('other.crt'))) return;
  makeAuthority('ca');
  makeAuthority('stranger');
  for (const name of ['server', 'client', 'other']) issue(name, 'ca');
  issue('foreign', 'stranger');
  // As Redis's own script makes them; of version 1 before OpenSSL 3.4.
  issue('plain', 'ca', false);
  issue('plain-foreign', 'stranger', false);
}

/** A server with a TLS port beside its plain one. */
async function start(t, ...args) {
  makeFiles();
  const tlsPort = await freePort();
  const server = await t.start('--tls-port', String(tlsPort), '--tls-cert-file', file('server.crt'), '--tls-key-file', file('server.key'),
    '--tls-ca-cert-file', file('ca.crt'), ...args);
  server.tlsPort = tlsPort;
  server.tlsUrl = `rediss://127.0.0.1:${tlsPort}`;
  return server;
}

const read = (name) => fs.readFileSync(file(name));
const trust = (name) => ({ ca: read('ca.crt'), ...(name && { cert: read(`${name}.crt`), key: read(`${name}.key`) }) });

/** What becomes of a client with these options: its reply to PING, or its first error. */
async function outcome(url, tls) {
  const client = new IORedis(url, { ...PLATFORM_OPTIONS, tls, retryStrategy: null });
  const failed = new Promise((resolve) => client.on('error', (error) => resolve(error.message)));
  const ended = new Promise((resolve) => client.on('end', () => resolve('closed')));
  const replied = client.ping().catch(() => failed);
  const result = await Promise.race([replied, failed, ended]);
  client.disconnect();
  return result;
}

test('tls: rediss:// with mutual authentication', async (t) => {
  const server = await start(t);
  const client = t.connect({ tls: trust('client') }, `${server.tlsUrl}/3`);
  assert.equal(await client.set('k', 'v'), 'OK');
  assert.equal(await client.get('k'), 'v');
  assert.notEqual(await outcome(server.tlsUrl, trust()), 'PONG');
  assert.notEqual(await outcome(server.tlsUrl, trust('foreign')), 'PONG');
  const versions = [{}, { maxVersion: 'TLSv1.2' }];
  for (const version of versions) {
    assert.equal(await outcome(server.tlsUrl, { ...trust('plain'), ...version }), 'PONG');
    assert.notEqual(await outcome(server.tlsUrl, { ...trust('plain-foreign'), ...version }), 'PONG');
    assert.equal(await outcome(server.tlsUrl, { ...trust('other'), ...version }), 'PONG');
  }
  assert.notEqual(await outcome(`redis://127.0.0.1:${server.tlsPort}`), 'PONG');
  const plain = t.connect({ db: 3 }, server.url);
  assert.equal(await plain.get('k'), 'v');
  const large = 'x'.repeat(5_000_000);
  await client.set('large', large);
  assert.equal(await client.get('large'), large);
  const pipeline = client.pipeline();
  for (let n = 0; n < 5000; n += 1) pipeline.incr('n');
  assert.deepEqual((await pipeline.exec()).at(-1), [null, 5000]);
});

test('tls: blocking, publish and subscribe, scripts', async (t) => {
  const server = await start(t, '--tls-auth-clients', 'no');
  const connect = () => t.connect({ tls: trust() }, server.tlsUrl);
  const [waiting, subscriber, other] = [connect(), connect(), connect()];
  const popped = waiting.blpop('list', 0);
  const heard = new Promise((resolve) => subscriber.on('message', (channel, message) => resolve([channel, message])));
  await subscriber.subscribe('news');
  await until('the client waits', async () => (await other.info('clients')).includes('blocked_clients:1'));
  await other.rpush('list', 'a');
  assert.deepEqual(await popped, ['list', 'a']);
  await other.publish('news', 'today');
  assert.deepEqual(await heard, ['news', 'today']);
  assert.equal(await other.eval("return redis.call('incr', KEYS[1])", 1, 'n'), 1);
});

test('tls: new files by CONFIG SET; bad ones change nothing', async (t) => {
  const server = await start(t, '--tls-auth-clients', 'optional');
  const plain = t.connect({}, server.url);
  const old = t.connect({ tls: trust() }, server.tlsUrl);
  await old.ping();
  const name = () =>
    new Promise((resolve, reject) => {
      const socket = require('node:tls').connect({ port: server.tlsPort, host: '127.0.0.1', ca: read('ca.crt') }, () => {
        resolve(socket.getPeerCertificate().subject.CN);
        socket.destroy();
      });
      socket.on('error', reject);
    });
  assert.equal(await name(), 'server');
  await assert.rejects(plain.config('SET', 'tls-cert-file', file('other.crt')), /Unable to update TLS configuration. Check server logs./);
  assert.equal(await name(), 'server');
  await plain.config('SET', 'tls-cert-file', file('other.crt'), 'tls-key-file', file('other.key'));
  assert.equal(await name(), 'other');
  assert.equal(await old.ping(), 'PONG');
  openssl('rsa', '-in', 'server.key', '-out', 'encrypted.key', '-aes256', '-passout', 'pass:1234');
  const encrypted = ['tls-cert-file', file('server.crt'), 'tls-key-file', file('encrypted.key')];
  await assert.rejects(plain.config('SET', ...encrypted), /Unable to update TLS configuration/);
  await plain.config('SET', ...encrypted, 'tls-key-file-pass', '1234');
  assert.equal(await name(), 'server');
});

test('tls: port 0, and ports that change', async (t) => {
  const server = await start(t, '--tls-auth-clients', 'no');
  const client = t.connect({ tls: trust() }, server.tlsUrl);
  await client.config('SET', 'port', '0');
  assert.notEqual(await outcome(server.url), 'PONG');
  assert.match(await client.info('server'), new RegExp(`tcp_port:${server.tlsPort}`));
  assert.equal(await outcome(server.tlsUrl, trust()), 'PONG');
  await client.config('SET', 'port', String(server.port));
  await client.config('SET', 'tls-port', '0');
  assert.equal(await outcome(server.url), 'PONG');
  assert.notEqual(await outcome(server.tlsUrl, trust()), 'PONG');
});

test('tls: redis-cli --tls', async (t) => {
  const server = await start(t);
  const cli = (...words) => spawnSync('redis-cli', ['-p', String(server.tlsPort), ...words], { encoding: 'utf8', timeout: 10_000 });
  const secure = ['--tls', '--cacert', file('ca.crt'), '--cert', file('client.crt'), '--key', file('client.key')];
  assert.equal(cli(...secure, 'SET', 'k', 'v').stdout, 'OK\n');
  assert.equal(cli(...secure, 'GET', 'k').stdout, 'v\n');
  assert.notEqual(cli(...secure.slice(0, 3), 'PING').stdout, 'PONG\n');
  assert.notEqual(cli('PING').stdout, 'PONG\n');
});
