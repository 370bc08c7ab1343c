import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import { browse, openFixture } from './lib/fixture.mjs';

let fixture;

before(async () => {
  fixture = await openFixture();
});

after(() => fixture.engine.free());

const memory = (records) => new fixture.sanderling.MemoryStorage(records);

test('a session is remembered between visits, oldest first and capped', async () => {
  const storage = memory();
  const first = await fixture.load({ storage, maxSessionLength: 4 });
  for (const [step, itemId] of fixture.itemIds.slice(0, 6).entries()) first.observe({ itemId, kind: 'view', timestamp: 100 + step });
  await first.settled();
  const second = await fixture.load({ storage, maxSessionLength: 4 });
  const expected = fixture.itemIds.slice(2, 6).map((itemId, step) => ({ itemId, kind: 'view', timestamp: 102 + step }));
  assert.deepEqual(second.session, expected);
});

test('two recommenders on one storage add to one session and to one window', async () => {
  const storage = memory();
  const left = await fixture.loadOwn({ storage });
  left.observe({ itemId: fixture.itemIds[0], kind: 'view' });
  await left.settled();
  const right = await fixture.loadOwn({ storage });
  right.observe({ itemId: fixture.itemIds[1], kind: 'view' });
  left.observe({ itemId: fixture.itemIds[2], kind: 'view' });
  await Promise.all([left.settled(), right.settled()]);
  const stored = (await storage.get('session')).map((interaction) => interaction.item_id);
  assert.deepEqual(stored.toSorted(), fixture.itemIds.slice(0, 3).toSorted());
  for (const recommender of [left, right, left]) {
    recommender.recommend();
    await recommender.settled();
  }
  const record = await storage.get(`telemetry/${left.bundle.hash}`);
  assert.equal(record.state.current.num_lists, 3);
  const counts = record.state.current.fields.find(({ name }) => name === 'interaction.category').counts;
  assert.ok(counts.reduce((sum, count) => sum + count, 0) >= 3);
  left.free();
  right.free();
});

test('an erase is not undone by another recommender', async () => {
  const storage = memory();
  const left = await fixture.loadOwn({ storage });
  browse(left, fixture.itemIds);
  await left.settled();
  const right = await fixture.loadOwn({ storage });
  assert.equal(right.session.length, 3);
  await left.erase();
  right.observe({ itemId: fixture.itemIds[5], kind: 'view' });
  await right.settled();
  assert.deepEqual(right.session.map(({ itemId }) => itemId), [fixture.itemIds[5]]);
  assert.equal((await storage.get('session')).length, 1);
  assert.equal(await storage.get(`telemetry/${left.bundle.hash}`).then((record) => record.state.current.num_lists), 0);
  left.free();
  right.free();
});

test('erase clears session, state and outbox; export shows everything that is kept', async () => {
  const storage = memory();
  const recommender = await fixture.load({ storage, consent: 'share', collectorUrl: 'http://127.0.0.1:9/' });
  browse(recommender, fixture.itemIds);
  await recommender.telemetry.flush();
  browse(recommender, fixture.itemIds);
  const before = await recommender.export();
  assert.equal(before.session.length, 6);
  assert.equal(before.records.reports.outbox.length, 1);
  assert.deepEqual(before.records, await storage.entries());
  await recommender.erase();
  const { records, session } = await recommender.export();
  assert.deepEqual(session, []);
  // What stays keeps the window from being reported twice, and says nothing about the user.
  assert.deepEqual(records, { reports: { lastWindowStart: before.records.reports.lastWindowStart } });
  const { state, outbox } = await recommender.telemetry.preview();
  assert.equal(outbox.length, 0);
  assert.ok(state.current.fields.every(({ counts }) => counts.every((count) => count === 0)));
});

test('counts of other bundles go with the next visit, and with an erase', async () => {
  const others = { [`telemetry/${'0'.repeat(64)}`]: { windowStart: 0, state: {} }, [`telemetry/${'1'.repeat(64)}`]: 7 };
  const storage = memory({ ...others, reports: { lastWindowStart: 86_400, outbox: [] } });
  const recommender = await fixture.load({ storage });
  assert.deepEqual(Object.keys(await storage.entries()), ['reports']);
  browse(recommender, fixture.itemIds);
  await recommender.settled();
  for (const [key, record] of Object.entries(others)) await storage.update(key, () => record);
  await recommender.erase();
  assert.deepEqual(await storage.entries(), { reports: { lastWindowStart: 86_400 } });
});

test('an erase during a write leaves nothing behind, in memory or in storage', async () => {
  const storage = memory();
  const recommender = await fixture.load({ storage });
  const update = storage.update.bind(storage);
  let started;
  const writing = new Promise((resolve) => (started = resolve));
  storage.update = async (key, change) => {
    const written = await update(key, change);
    started();
    await new Promise((resolve) => setTimeout(resolve, 20));
    return written;
  };
  recommender.observe({ itemId: fixture.itemIds[0], kind: 'view' });
  await writing;
  await recommender.erase();
  assert.deepEqual(recommender.session, []);
  assert.deepEqual((await recommender.export()).records, {});
});

test('a session length is a whole number, and 0 remembers nothing', async () => {
  for (const maxSessionLength of [-1, 0.5, NaN, Infinity]) {
    await assert.rejects(fixture.load({ maxSessionLength }), { name: 'RecommenderError', code: 'invalid_argument' });
  }
  await assert.rejects(fixture.load({ maxSessionLength: '5' }), { code: 'invalid_argument' });
  const recommender = await fixture.load({ maxSessionLength: 0 });
  browse(recommender, fixture.itemIds);
  await recommender.settled();
  assert.deepEqual(recommender.session, []);
  assert.deepEqual((await recommender.export()).records.session, []);
});

test('an interaction that could not be written is written with the next one', async () => {
  const storage = memory();
  const update = storage.update.bind(storage);
  let isFull = false;
  storage.update = (key, change) => (isFull && key === 'session' ? Promise.reject(new Error('full')) : update(key, change));
  const recommender = await fixture.load({ storage, consent: 'device' });
  for (const [step, itemId] of fixture.itemIds.slice(0, 3).entries()) {
    isFull = step === 1;
    recommender.observe({ itemId, kind: 'view', timestamp: 10 + step });
    await recommender.settled();
  }
  assert.deepEqual(recommender.session.map(({ itemId }) => itemId), fixture.itemIds.slice(0, 3));
  assert.deepEqual((await storage.get('session')).map(({ item_id: itemId }) => itemId), fixture.itemIds.slice(0, 3));
});

test('what is added right after an erase is all that there is', async () => {
  const storage = memory();
  const recommender = await fixture.load({ storage, consent: 'device' });
  const [first, second, third, fourth] = fixture.itemIds;
  const add = (itemId, timestamp) => recommender.observe({ itemId, kind: 'view', timestamp });
  add(first, 1);
  await recommender.settled();
  add(second, 2);
  const erased = recommender.erase();
  add(third, 3);
  await erased;
  await recommender.settled();
  add(fourth, 4);
  await recommender.settled();
  assert.deepEqual(recommender.session.map(({ itemId }) => itemId), [third, fourth]);
  assert.deepEqual((await storage.get('session')).map(({ item_id: itemId }) => itemId), [third, fourth]);
});

test('an outcome is written at once, as the click may lead to another page', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const storage = memory();
  const recommender = await fixture.load({ storage, consent: 'device' });
  recommender.recommend({ limit: 5 });
  recommender.recordOutcome({ position: 1 });
  for (let turn = 0; turn < 3; turn += 1) await new Promise(setImmediate);
  const [, window] = Object.entries(await storage.entries()).find(([key]) => key.startsWith('telemetry/'));
  const { counts } = window.state.current.fields.find(({ name }) => name === 'outcome.position');
  assert.equal(counts.reduce((sum, count) => sum + count), 1);
});

test('counts go on after a reload', async () => {
  const storage = memory();
  const first = await fixture.load({ storage });
  browse(first, fixture.itemIds);
  const { state } = await first.telemetry.preview();
  assert.ok(state.current.num_lists > 0);
  const second = await fixture.load({ storage });
  assert.deepEqual((await second.telemetry.preview()).state, state);
});

test('damaged records count as absent', async () => {
  const damage = [null, 7, 'text', [], [1, { item_id: 5 }], { outbox: 'no', lastWindowStart: 'x' }, { windowStart: 0, state: {} }];
  for (const broken of damage) {
    const plain = await fixture.load();
    const key = `telemetry/${plain.bundle.hash}`;
    const recommender = await fixture.load({ storage: memory({ session: broken, reports: broken, [key]: broken }) });
    assert.equal(browse(recommender, fixture.itemIds).recommendations.length, 5, JSON.stringify(broken));
    assert.equal((await recommender.telemetry.preview()).outbox.length, 0);
  }
});

test('a storage that fails never stops recommending', async () => {
  const fail = async () => {
    throw new Error('the disk is gone');
  };
  const storage = { description: 'broken', get: fail, update: fail, entries: fail, clear: fail };
  const recommender = await fixture.load({ storage });
  assert.equal(browse(recommender, fixture.itemIds).recommendations.length, 5);
  await recommender.telemetry.flush();
  await recommender.erase();
  assert.equal((await recommender.export()).storage, 'memory');
});

test('a storage that starts to fail later never stops recommending', async () => {
  const storage = memory();
  const recommender = await fixture.load({ storage, consent: 'share', collectorUrl: 'http://127.0.0.1:9/' });
  storage.update = async () => {
    throw new Error('quota exceeded');
  };
  assert.equal(browse(recommender, fixture.itemIds).recommendations.length, 5);
  assert.equal((await recommender.telemetry.flush()).accepted, 0);
  await assert.rejects(recommender.erase(), { code: 'io' }, 'what could not be removed is told');
  assert.deepEqual(recommender.session, []);
});
