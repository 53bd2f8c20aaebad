'use strict';
// Starts the server under test on a free loopback port with a directory of its own, and stops it by its pid.

const { spawn } = require('node:child_process');
const fs = require('node:fs');
const net = require('node:net');
const os = require('node:os');
const path = require('node:path');

const START_LIMIT_MS = 60_000;
const STOP_LIMIT_MS = 60_000;
const running = new Set();

// However a run ends, no server it started is left behind.
process.on('exit', () => {
  for (const server of running) server.dispose();
});
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => process.exit(130));

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/**
 * A port that nobody listens on, below those that the system gives to outgoing connections: a client that connects anew
 * would take one of these while a server is away from it.
 */
async function freePort() {
  const isFree = (port) => new Promise((resolve) => {
    const probe = net.createServer();
    probe.once('error', () => resolve(false));
    probe.listen(port, '127.0.0.1', () => probe.close(() => resolve(true)));
  });
  for (;;) {
    const port = 20_000 + Math.floor(Math.random() * 10_000);
    if (await isFree(port)) return port;
  }
}

/** One inline PING on a fresh socket; true on any status or error reply, unless the data set is being loaded. */
function answers(port) {
  return new Promise((resolve) => {
    const socket = net.connect(port, '127.0.0.1', () => socket.write('PING\r\n'));
    const done = (ok) => {
      socket.destroy();
      resolve(ok);
    };
    socket.once('data', (bytes) => done(/^[+-](?!LOADING)/.test(bytes.toString('latin1'))));
    socket.once('error', () => done(false));
    socket.setTimeout(1000, () => done(false));
  });
}

class TestServer {
  /**
   * `SERVER` names the binary (default: redis-server of the PATH); `SERVER_ARGS` are words added to every start.
   * `args` are words of Redis's command line; saving is off unless they say otherwise.
   */
  static async start(args = []) {
    const server = new TestServer();
    server.binary = process.env.SERVER || 'redis-server';
    server.args = [...(process.env.SERVER_ARGS || '').split(/\s+/).filter(Boolean), ...args];
    server.dir = fs.mkdtempSync(path.join(os.tmpdir(), 'conformance-'));
    running.add(server);
    for (let left = 5; ; left -= 1) {
      server.port = await freePort();
      try {
        await server.spawn();
        return server;
      } catch (error) {
        // Somebody else may have taken the port before the server could.
        if (left === 0 || !/Address already in use/.test(error.message)) throw error;
      }
    }
  }

  get url() {
    return `redis://127.0.0.1:${this.port}`;
  }

  async spawn() {
    const log = fs.openSync(path.join(this.dir, 'log'), 'a');
    const words = ['--port', String(this.port), '--bind', '127.0.0.1', '--save', '', '--dir', this.dir, ...this.args];
    this.child = spawn(this.binary, words, { stdio: ['ignore', log, log] });
    fs.closeSync(log);
    this.ended = new Promise((resolve) => {
      this.child.once('error', (error) => resolve(`cannot run ${this.binary}: ${error.message}`));
      this.child.once('exit', (code, signal) => resolve(`ended (${signal || `exit code ${code}`})`));
    });
    let reason = null;
    this.ended.then((text) => (reason = text));
    const limit = Date.now() + START_LIMIT_MS;
    while (!(await answers(this.port))) {
      if (reason) throw new Error(`${this.binary} ${reason} before it answered\n${this.log()}`);
      if (Date.now() > limit) throw new Error(`${this.binary} does not answer PING\n${this.log()}`);
      await sleep(5);
    }
  }

  /** The end of its log; of a panic, the beginning. */
  log() {
    const lines = fs.readFileSync(path.join(this.dir, 'log'), 'utf8').split('\n');
    const panic = lines.findIndex((line) => line.includes('panicked'));
    return (panic < 0 ? lines.slice(-20) : lines.slice(panic, panic + 30)).join('\n');
  }

  /** Ends the process and waits until it is gone; throws when it outlives the limit. */
  async stop(signal = 'SIGTERM') {
    this.child.kill(signal);
    const gone = await Promise.race([this.ended, sleep(STOP_LIMIT_MS).then(() => null)]);
    if (gone === null) throw new Error(`${this.binary} ignores ${signal}`);
  }

  /** Same port, same directory. */
  async restart(signal = 'SIGTERM') {
    await this.stop(signal);
    await this.spawn();
  }

  alive() {
    return this.child.exitCode === null && this.child.signalCode === null;
  }

  dispose() {
    running.delete(this);
    if (this.child && this.alive()) this.child.kill('SIGKILL');
    // It may still be writing while it dies.
    fs.rmSync(this.dir, { recursive: true, force: true, maxRetries: 10, retryDelay: 50 });
  }
}

module.exports = { TestServer, freePort, sleep };
