// When a session ends, and who is told that it changed.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import { openFixture } from './lib/fixture.mjs';

const START = 1_700_000_000;
let fixture;

before(async () => {
  fixture = await openFixture();
});

after(() => fixture.engine.free());

/** What the engine was asked with. */
async function asked(options, timestamps, now) {
  const sessions = [];
  const engine = new Proxy(fixture.engine, {
    get: (target, name) => {
      if (name === 'recommend') {
        return (request) => {
          sessions.push(request.session.map(({ timestamp }) => timestamp - START));
          return target.recommend(request);
        };
      }
      const value = target[name];
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
  const recommender = await fixture.load({ engine, ...options });
  for (const [at, timestamp] of timestamps.entries()) {
    recommender.observe({ itemId: fixture.itemIds[at], kind: 'view', timestamp: START + timestamp });
  }
  recommender.recommend({ now: START + now });
  assert.equal(recommender.session.length, timestamps.length, 'everything stays remembered');
  recommender.free();
  return sessions[0];
}

test('a pause ends a session, and only where the site or the bundle says so', async () => {
  const timestamps = [0, 10, 5000, 5010];
  assert.deepEqual(await asked({}, timestamps, 5020), timestamps, 'this bundle was trained on whole histories');
  const idle = { sessionIdleSeconds: 1800 };
  assert.deepEqual(await asked(idle, timestamps, 5020), [5000, 5010]);
  assert.deepEqual(await asked(idle, timestamps, 9000), [], 'the last one ended, too');
  assert.deepEqual(await asked(idle, timestamps, 6810), [5000, 5010], 'a pause of exactly so long does not end it');
  // The clock was ahead, and was put back.
  assert.deepEqual(await asked(idle, [0, 90_000, 90_010, 20, 30], 40), [90_000, 90_010, 20, 30]);
  assert.deepEqual(await asked(idle, [0, 10], -500), [0, 10], 'it is still behind');
  await assert.rejects(fixture.load({ sessionIdleSeconds: 0 }), { code: 'invalid_argument' });
  await assert.rejects(fixture.load({ sessionIdleSeconds: '1' }), { code: 'invalid_argument' });
});

test('listeners hear of every change, whatever one of them throws', async () => {
  const recommender = await fixture.load();
  const heard = [];
  const uncaught = [];
  globalThis.reportError = (error) => uncaught.push(error.message);
  recommender.onChange(() => {
    throw new Error('a listener of the page');
  });
  const stop = recommender.onChange(() => heard.push(recommender.session.length));
  const before = recommender.revision;
  recommender.observe({ itemId: fixture.itemIds[0], kind: 'view' });
  await recommender.settled();
  assert.deepEqual(heard, [1], 'what was written is no change');
  assert.equal(recommender.revision, before + 1);
  stop();
  await recommender.erase();
  assert.deepEqual(heard, [1]);
  assert.ok(recommender.revision > before + 1);
  delete globalThis.reportError;
  assert.deepEqual(new Set(uncaught), new Set(['a listener of the page']));
  recommender.free();
});

test('an item that is looked at counts as viewed for one list, and is not in it', async () => {
  const recommender = await fixture.load();
  const [near, other] = fixture.itemIds;
  const request = { limit: 10, now: START, seed: 1 };
  const { recommendations, faults } = recommender.recommend({ near, ...request });
  assert.deepEqual(faults, []);
  assert.ok(recommendations.every(({ itemId }) => itemId !== near));
  assert.deepEqual(recommendations, recommender.recommend({ session: [{ itemId: near, kind: 'view', timestamp: START }], ...request }).recommendations);
  assert.deepEqual(recommender.session, []);
  const excluded = recommender.recommend({ near, rules: { exclude: [other], excludeSeen: false }, ...request }).recommendations;
  assert.ok(excluded.every(({ itemId }) => itemId !== near && itemId !== other));
  assert.throws(() => recommender.recommend({ near: 3 }), { code: 'invalid_argument' });
  recommender.free();
});

test('an outcome that names an item of another list is not counted', async () => {
  const recommender = await fixture.load({ consent: 'none' });
  const counted = [];
  const { engine } = recommender;
  engine.recordOutcome = (position) => counted.push(position);
  try {
    const [older, newest] = [fixture.itemIds.slice(0, 3), fixture.itemIds.slice(3, 6)].map((only) => recommender.rank(only).recommendations);
    recommender.recordOutcome({ position: 2, itemId: older[1].itemId });
    recommender.recordOutcome({ position: 1, itemId: newest[1].itemId });
    recommender.recordOutcome({ itemId: newest[1].itemId });
    assert.deepEqual(counted, []);
    recommender.recordOutcome({ position: 2, itemId: newest[1].itemId });
    recommender.recordOutcome({ position: 3 });
    recommender.recordOutcome();
    assert.deepEqual(counted, [2, 3, undefined]);
  } finally {
    delete engine.recordOutcome;
  }
});

test('items of the page are put in order, all of them and no others', async () => {
  const recommender = await fixture.load();
  const items = fixture.itemIds.slice(5, 12);
  recommender.observe({ itemId: items[0], kind: 'view' });
  const { recommendations } = recommender.rank([...items, 'no such item']);
  assert.deepEqual(recommendations.map(({ itemId }) => itemId).sort(), [...items].sort());
  const scores = recommendations.map(({ score }) => score);
  assert.deepEqual(scores, [...scores].sort((a, b) => b - a));
  assert.equal(recommender.rank(items, { rules: { excludeSeen: true } }).recommendations.length, items.length - 1);
  assert.deepEqual(recommender.rank([]), { recommendations: [], faults: [] });
  assert.throws(() => recommender.rank('abc'), { code: 'invalid_argument' });
  recommender.free();
});

test('places that go to chance say what the chance was', async () => {
  const recommender = await fixture.load();
  recommender.observe({ itemId: fixture.itemIds[0], kind: 'view' });
  const list = (exploration, seed) => recommender.recommend({ limit: 5, now: START, seed, rules: { exploration } }).recommendations;
  assert.ok(list(0, 1).every(({ propensity, source }) => propensity === undefined && source !== 'exploration'));
  const explored = list(1, 1);
  assert.ok(explored.every(({ propensity, source }) => source === 'exploration' && propensity > 0 && propensity < 0.5));
  assert.deepEqual(list(1, 1), explored);
  assert.notDeepEqual(list(1, 2), explored);
  const pinned = recommender.recommend({ limit: 3, rules: { pins: [{ itemId: fixture.itemIds[7], position: 2 }] } }).recommendations;
  assert.deepEqual([pinned[1].itemId, pinned[1].source, pinned[1].reasons], [fixture.itemIds[7], 'pinned', [{ kind: 'pinned' }]]);
  assert.throws(() => recommender.recommend({ rules: { pins: [{ itemId: 'a' }] } }), { code: 'invalid_argument' });
  recommender.free();
});
