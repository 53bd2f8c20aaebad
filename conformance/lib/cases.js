'use strict';
// Registers cases and runs them one after another; compares the outcome with status.toml.

const fs = require('node:fs');
const path = require('node:path');
const { sleep } = require('./server');

const CASE_LIMIT_MS = 120_000;
const cases = [];

/** `body(t)` asserts; `options.limit` is its time limit in milliseconds. */
function test(name, options, body) {
  if (typeof options === 'function') [options, body] = [{}, options];
  if (cases.some((other) => other.name === name)) throw new Error(`two cases are named '${name}'`);
  cases.push({ name, options, body });
}

/** Polls until `probe` answers something true; throws with `what` after `limit` milliseconds. */
async function until(what, probe, limit = 60_000) {
  const end = Date.now() + limit;
  for (;;) {
    const value = await probe();
    if (value) return value;
    if (Date.now() > end) throw new Error(`not within ${limit} ms: ${what}`);
    await sleep(10);
  }
}

/** A promise with its handles outside. */
function signal() {
  const handle = {};
  handle.promise = new Promise((resolve, reject) => Object.assign(handle, { resolve, reject }));
  return handle;
}

/**
 * The lines this project writes in a status.toml: `[suite."case name"]` (or `[any."case name"]`), then
 * `status = "fail" | "skip"` and `reason = "..."`. A case that is not named must pass.
 */
function readStatus(file, suite) {
  const expected = new Map();
  let entry = null;
  for (const [at, raw] of fs.readFileSync(file, 'utf8').split('\n').entries()) {
    const line = raw.trim();
    if (!line || line.startsWith('#')) continue;
    const section = /^\[([\w-]+)\."(.*)"\]$/.exec(line);
    const pair = /^(status|reason) = "(.*)"$/.exec(line);
    if (section) {
      entry = {};
      if (section[1] === suite || section[1] === 'any') expected.set(section[2], entry);
    } else if (pair && entry) entry[pair[1]] = pair[2];
    else throw new Error(`${file}:${at + 1}: cannot read '${line}'`);
  }
  for (const [name, { status, reason }] of expected) {
    if (!['fail', 'skip'].includes(status) || !reason) throw new Error(`${file}: '${name}' needs status and reason`);
    if (!cases.some((one) => one.name === name)) throw new Error(`${file}: there is no case '${name}'`);
  }
  return expected;
}

async function attempt(one, makeContext) {
  let t;
  let timer;
  const limit = one.options.limit || CASE_LIMIT_MS;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`the case takes longer than ${limit} ms`)), limit);
  });
  try {
    t = await makeContext(one);
    await Promise.race([one.body(t), late]);
    return null;
  } catch (error) {
    return error instanceof Error ? error : new Error(String(error));
  } finally {
    clearTimeout(timer);
    if (t) await t.close();
  }
}

/**
 * Runs every registered case whose name contains one of the words of the command line (none: all) and exits: 0 when all
 * went as expected. `STATUS` names a status.toml; a case listed there as `fail` that passes is a failure too.
 */
async function main(suite, makeContext, finish) {
  const expected = process.env.STATUS ? readStatus(path.resolve(process.env.STATUS), suite) : new Map();
  const words = process.argv.slice(2);
  let passed = 0;
  let failed = 0;
  for (const one of cases) {
    if (words.length && !words.some((word) => one.name.includes(word))) continue;
    const { status, reason } = expected.get(one.name) || { status: 'pass' };
    if (status === 'skip') {
      console.log(`skip  ${one.name}: ${reason}`);
      continue;
    }
    const began = Date.now();
    const error = await attempt(one, makeContext);
    const took = `${Date.now() - began} ms`;
    if (!error && status === 'pass') {
      passed += 1;
      console.log(`ok    ${one.name} (${took})`);
    } else if (error && status === 'fail') {
      passed += 1;
      console.log(`known ${one.name}: ${reason}`);
    } else {
      failed += 1;
      console.log(`FAIL  ${one.name} (${took})`);
      console.log((error ? error.stack : `passes, but status.toml says: ${reason}`).replace(/^/gm, '      '));
    }
  }
  await finish();
  console.log(`${suite}: ${passed} passed, ${failed} failed`);
  process.exit(failed || !passed ? 1 : 0);
}

module.exports = { test, until, signal, main, cases };
