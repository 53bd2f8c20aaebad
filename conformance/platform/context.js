'use strict';
// What a case gets: ioredis clients with the platform's options, raw sockets, more servers. IOREDIS=5, 6 or 6-resp2.
// Everything a case opens is closed after it, and the server is emptied before it.

const net = require('node:net');
const { TestServer } = require('../lib/server');

const flavour = process.env.IOREDIS || '5';
const IORedis = require(`ioredis${flavour[0]}`);
const resp3 = flavour === '6';

/** The options of the platform's own code, to the letter. */
const PLATFORM_OPTIONS = { maxRetriesPerRequest: null, enableReadyCheck: false, lazyConnect: true };

let shared = null;

/** A socket that sends bytes as they are and answers what came back, as a latin-1 string. */
class Raw {
  constructor(port) {
    this.received = '';
    this.closed = false;
    this.socket = net.connect(port, '127.0.0.1');
    this.socket.setNoDelay(true);
    this.socket.on('data', (bytes) => (this.received += bytes.toString('latin1')));
    this.socket.on('close', () => (this.closed = true));
    this.socket.on('error', () => {});
  }

  send(bytes) {
    this.socket.write(bytes, 'latin1');
  }

  /** Sends the words as one RESP request. */
  command(...words) {
    this.send(`*${words.length}\r\n${words.map((word) => `$${Buffer.byteLength(String(word))}\r\n${word}\r\n`).join('')}`);
  }

  /** Waits for `length` bytes and takes them off. */
  async take(length, limit = 30_000) {
    const end = Date.now() + limit;
    while (this.received.length < length) {
      if (Date.now() > end) throw new Error(`wanted ${length} bytes, got ${JSON.stringify(this.received)}`);
      await new Promise((resolve) => setTimeout(resolve, 2));
    }
    const text = this.received.slice(0, length);
    this.received = this.received.slice(length);
    return text;
  }

  /** Waits for exactly this reply. */
  async expect(text) {
    const got = await this.take(text.length);
    if (got !== text) throw new Error(`wanted ${JSON.stringify(text)}, got ${JSON.stringify(got + this.received)}`);
  }
}

class Context {
  constructor(server) {
    this.server = server;
    this.servers = [];
    this.clients = [];
    this.sockets = [];
    this.errors = [];
  }

  /** A client of this server, or of `url`. */
  connect(extra = {}, url = this.server.url) {
    const protocol = flavour === '6-resp2' ? { protocol: 2 } : {};
    const client = new IORedis(url, { ...PLATFORM_OPTIONS, ...protocol, ...extra });
    client.on('error', (error) => this.errors.push(error));
    this.clients.push(client);
    return client;
  }

  raw(server = this.server) {
    const raw = new Raw(server.port);
    this.sockets.push(raw.socket);
    return raw;
  }

  async start(...args) {
    const server = await TestServer.start(args);
    this.servers.push(server);
    return server;
  }

  async close() {
    for (const client of this.clients) client.disconnect();
    for (const socket of this.sockets) socket.destroy();
    for (const server of this.servers) server.dispose();
  }
}

async function makeContext() {
  if (shared && !shared.alive()) {
    console.log(`      the server is gone; its log ends:\n${shared.log()}`);
    shared.dispose();
    shared = null;
  }
  if (!shared) shared = await TestServer.start();
  const t = new Context(shared);
  t.redis = t.connect();
  await t.redis.flushall();
  return t;
}

function finish() {
  if (shared) shared.dispose();
}

module.exports = { IORedis, flavour, resp3, makeContext, finish, PLATFORM_OPTIONS };
