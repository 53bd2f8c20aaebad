'use strict';
// What a case gets: connected node-redis clients and more servers. NODE_REDIS=5 speaks RESP2, 6 speaks RESP3.
// Everything a case opens is closed after it, and the server is emptied before it.

const { TestServer } = require('../lib/server');

const flavour = process.env.NODE_REDIS || '5';
const { createClient, createClientPool, createCluster } = require(`client${flavour}`);
const RESP = flavour === '6' ? 3 : 2;

let shared = null;

class Context {
  constructor(server) {
    this.server = server;
    this.servers = [];
    this.clients = [];
    this.errors = [];
  }

  /** A connected client of this server; `options.url` for another. */
  async connect(options = {}) {
    const client = createClient({ url: this.server.url, RESP, ...options });
    client.on('error', (error) => this.errors.push(error));
    this.clients.push(client);
    return client.connect();
  }

  async start(...args) {
    const server = await TestServer.start(args);
    this.servers.push(server);
    return server;
  }

  /** Whether the server says it is of this Redis version or newer: Debian's is 7.0. */
  async since(version) {
    const [, text] = /redis_version:(\S+)/.exec(await this.redis.info('server'));
    const number = (dotted) => dotted.split('.').reduce((sum, part) => sum * 1000 + Number(part), 0);
    return number(text.split('.').slice(0, 2).join('.')) >= number(version);
  }

  async close() {
    for (const client of this.clients) if (client.isOpen) client.destroy();
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
  t.redis = await t.connect();
  await t.redis.flushAll();
  return t;
}

function finish() {
  if (shared) shared.dispose();
}

module.exports = { createClient, createClientPool, createCluster, flavour, RESP, makeContext, finish };
