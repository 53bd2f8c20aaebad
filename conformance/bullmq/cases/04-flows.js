'use strict';
// Flows: parents wait for children, read their results, and fail, ignore or go on when a child fails.

const assert = require('node:assert/strict');
const { test, until } = require('../../lib/cases');
const { bullmq } = require('../context');

const PARENT = 'agent__blog-writer';
const CHILD = 'rag__ingestion';

/** Workers of both queues; a child named 'bad' fails. */
function workers(t, parentProcessor) {
  t.worker(PARENT, parentProcessor || (async (job) => Object.values(await job.getChildrenValues()).sort()));
  t.worker(CHILD, async (job) => {
    if (job.name === 'bad') throw new Error('child is bad');
    return `${job.name} done`;
  });
}

const child = (name, opts, children) => ({ name, queueName: CHILD, data: { name }, opts, children });

test('flow: the parent waits for three children and reads their results', async (t) => {
  const flow = t.flow();
  const queue = t.queue(PARENT);
  const tree = await flow.add({ name: 'article', queueName: PARENT, data: {}, children: [child('a'), child('b'), child('c')] });
  assert.equal(await tree.job.getState(), 'waiting-children');
  assert.equal(await queue.getWaitingChildrenCount(), 1);
  assert.deepEqual(await tree.job.getDependenciesCount(), { failed: 0, ignored: 0, processed: 0, unprocessed: 3 });
  assert.equal((await tree.job.getDependencies()).unprocessed.length, 3);
  workers(t);
  await until('the parent is done', () => tree.job.isCompleted());
  const parent = await queue.getJob(tree.job.id);
  assert.deepEqual(parent.returnvalue, ['a done', 'b done', 'c done']);
  assert.deepEqual(await parent.getDependenciesCount({ processed: true, unprocessed: true }), { processed: 3, unprocessed: 0 });
  const key = `bull:${CHILD}:${tree.children[0].job.id}`;
  assert.equal((await parent.getChildrenValues())[key], 'a done');
});

test('flow: grandchildren, getFlow', async (t) => {
  const flow = t.flow();
  const queue = t.queue(PARENT);
  const tree = await flow.add({
    name: 'book',
    queueName: PARENT,
    children: [child('chapter', {}, [child('page 1'), child('page 2', { priority: 3 })]), child('cover', { delay: 200 })],
  });
  const read = await flow.getFlow({ id: tree.job.id, queueName: PARENT });
  assert.equal(read.children.length, 2);
  const chapter = read.children.find((one) => one.job.name === 'chapter');
  assert.deepEqual(chapter.children.map((one) => one.job.name).sort(), ['page 1', 'page 2']);
  assert.equal(await chapter.job.getState(), 'waiting-children');
  workers(t);
  await until('the root is done', () => tree.job.isCompleted());
  assert.deepEqual((await queue.getJob(tree.job.id)).returnvalue, ['chapter done', 'cover done']);
});

test('flow: addBulk of 20 flows', async (t) => {
  const flow = t.flow();
  const queue = t.queue(PARENT);
  const trees = await flow.addBulk(
    Array.from({ length: 20 }, (_, n) => ({ name: `article ${n}`, queueName: PARENT, children: [child(`x${n}`), child(`y${n}`)] })),
  );
  assert.equal(trees.length, 20);
  workers(t);
  await until('twenty parents are done', async () => (await queue.getCompletedCount()) === 20);
  const parent = await queue.getJob(trees[7].job.id);
  assert.deepEqual(parent.returnvalue, ['x7 done', 'y7 done']);
});

test('flow: failParentOnFailure fails the parent and its parent', async (t) => {
  const flow = t.flow();
  const queue = t.queue(PARENT);
  const tree = await flow.add({
    name: 'root',
    queueName: PARENT,
    children: [child('middle', { failParentOnFailure: true }, [child('bad', { failParentOnFailure: true }), child('good')])],
  });
  workers(t);
  await until('the root failed', () => tree.job.isFailed());
  const root = await queue.getJob(tree.job.id);
  const middle = await t.queue(CHILD).getJob(tree.children[0].job.id);
  assert.equal(await middle.getState(), 'failed');
  assert.match(root.failedReason, /child bull:rag__ingestion:.* failed/);
  assert.match(middle.failedReason, /child bull:rag__ingestion:.* failed/);
});

test('flow: ignoreDependencyOnFailure lets the parent run and read the failure', async (t) => {
  const flow = t.flow();
  const queue = t.queue(PARENT);
  const tree = await flow.add({
    name: 'root',
    queueName: PARENT,
    children: [child('bad', { ignoreDependencyOnFailure: true }), child('good')],
  });
  workers(t, async (job) => ({ values: Object.values(await job.getChildrenValues()), ignored: Object.values(await job.getIgnoredChildrenFailures()) }));
  await until('the parent is done', () => tree.job.isCompleted());
  const parent = await queue.getJob(tree.job.id);
  assert.deepEqual(parent.returnvalue, { values: ['good done'], ignored: ['child is bad'] });
  assert.deepEqual(await parent.getDependenciesCount(), { failed: 0, ignored: 1, processed: 1, unprocessed: 0 });
});

test('flow: removeDependencyOnFailure forgets the child', async (t) => {
  const flow = t.flow();
  const queue = t.queue(PARENT);
  const tree = await flow.add({
    name: 'root',
    queueName: PARENT,
    children: [child('bad', { removeDependencyOnFailure: true }), child('good')],
  });
  workers(t);
  await until('the parent is done', () => tree.job.isCompleted());
  assert.deepEqual((await queue.getJob(tree.job.id)).returnvalue, ['good done']);
});

test('flow: continueParentOnFailure starts the parent before the other children end', async (t) => {
  const flow = t.flow();
  const queue = t.queue(PARENT);
  const tree = await flow.add({
    name: 'root',
    queueName: PARENT,
    children: [child('bad', { continueParentOnFailure: true }), child('late', { delay: 60_000 })],
  });
  workers(t, async (job) => {
    const failures = await job.getFailedChildrenValues();
    await job.removeUnprocessedChildren();
    return Object.values(failures);
  });
  await until('the parent is done', () => tree.job.isCompleted());
  assert.deepEqual((await queue.getJob(tree.job.id)).returnvalue, ['child is bad']);
  assert.equal(await t.queue(CHILD).getDelayedCount(), 0);
});

test('flow: a parent without options waits for ever when a child failed, until the child is removed', async (t) => {
  const flow = t.flow();
  const tree = await flow.add({ name: 'root', queueName: PARENT, children: [child('bad'), child('good')] });
  workers(t);
  const bad = tree.children[0].job;
  await until('the child failed', () => bad.isFailed());
  await until('the other is done', () => tree.children[1].job.isCompleted());
  assert.equal(await tree.job.getState(), 'waiting-children');
  await bad.removeChildDependency();
  await until('the parent is done', () => tree.job.isCompleted());
});

test('flow: removing a parent removes its children, in every state', async (t) => {
  const flow = t.flow();
  const queue = t.queue(PARENT);
  const tree = await flow.add({
    name: 'root',
    queueName: PARENT,
    children: [child('a'), child('b', { delay: 60_000 }), child('c', { priority: 2 }, [child('d')])],
  });
  await queue.remove(tree.job.id);
  assert.equal(await queue.getJob(tree.job.id), undefined);
  const children = t.queue(CHILD);
  assert.equal(await children.count(), 0);
  const left = (await t.keysOf(CHILD)).filter((key) => /:\d+$|:[0-9a-f-]{36}/.test(key));
  assert.deepEqual(left, []);
});

test('flow: a running job adds children and waits for them', async (t) => {
  const queue = t.queue(PARENT);
  const children = t.queue(CHILD);
  const steps = [];
  t.worker(CHILD, async (job) => job.data.n * 2);
  t.worker(PARENT, async (job, token) => {
    steps.push(job.data.step || 'begin');
    if (!job.data.step) {
      for (const n of [1, 2]) await children.add('part', { n }, { delay: 150, parent: { id: job.id, queue: job.queueQualifiedName } });
      await job.updateData({ step: 'collect' });
      if (await job.moveToWaitingChildren(token)) throw new bullmq.WaitingChildrenError();
    }
    return Object.values(await job.getChildrenValues()).sort();
  });
  const job = await queue.add('steps', {});
  await until('the job is done', () => job.isCompleted());
  assert.deepEqual(steps, ['begin', 'collect']);
  assert.deepEqual((await queue.getJob(job.id)).returnvalue, [2, 4]);
});
