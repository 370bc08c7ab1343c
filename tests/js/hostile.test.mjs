import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import { openFixture } from './lib/fixture.mjs';

let fixture;
let recommender;

before(async () => {
  fixture = await openFixture();
  recommender = await fixture.load({ consent: 'none' });
});

after(() => fixture.engine.free());

const NUMBERS = [NaN, Infinity, -Infinity, -1, -0, 0, 0.5, 1e9, 2 ** 31, 2 ** 53, 1e308, Number.MIN_VALUE, Number.MIN_SAFE_INTEGER];
const TEXTS = ['', '\0', '\ud800', '\u202e', '__proto__', 'constructor', '🦜'.repeat(1000), 'x'.repeat(100_000)];

test('no value of the right type makes recommend throw', () => {
  for (const number of NUMBERS) {
    for (const options of [
      { limit: number },
      { now: number },
      { seed: number },
      { rules: { categoryCap: number } },
      { rules: { filter: { minPrice: number, maxPrice: number } } },
    ]) {
      const { recommendations, faults } = recommender.recommend(options);
      assert.ok(Array.isArray(recommendations) && Array.isArray(faults));
      assert.ok(!faults.some(({ code }) => code === 'engine_failed'), `${JSON.stringify(options)}: ${JSON.stringify(faults)}`);
    }
  }
  for (const text of TEXTS) {
    const rules = { exclude: [text, text], filter: { categories: [text] } };
    const { faults } = recommender.recommend({ rules, context: { [text]: text }, limit: 3 });
    assert.ok(!faults.some(({ code }) => code === 'engine_failed'), `${text.slice(0, 20)}: ${JSON.stringify(faults)}`);
  }
});

test('a session of unknown, repeated or odd items is served', () => {
  const known = fixture.itemIds[0];
  const odd = TEXTS.filter((text) => text.length > 0 && text.length <= 512);
  const sessions = [
    odd.map((itemId) => ({ itemId, kind: 'view', timestamp: NaN })),
    Array.from({ length: 5000 }, () => ({ itemId: known, kind: 'view', timestamp: -1 })),
    [{ itemId: known, kind: '🦜', timestamp: Infinity }],
  ];
  for (const session of sessions) {
    const { recommendations, faults } = recommender.recommend({ session, limit: 5 });
    assert.equal(recommendations.length, 5);
    assert.ok(!faults.some(({ code }) => code === 'engine_failed'));
  }
});

test('a wrong type is a typed error, and the engine goes on', () => {
  const wrong = [
    null, 5, 'text', [], { limit: '10' }, { limit: 10n }, { limit: null }, { now: new Date() }, { rules: [] }, { rules: { exclude: 'a' } },
    { rules: { exclude: [1] } }, { rules: { excludeSeen: 'yes' } }, { rules: { filter: 3 } }, { rules: { filter: { minPrice: '1' } } },
    { context: { page: 1 } }, { context: 'x' }, { session: {} }, { session: [null] }, { session: [{ itemId: 1, kind: 'view', timestamp: 0 }] },
    { session: [{ itemId: '', kind: 'view' }] }, { limit: Symbol('many') },
    Object.defineProperty({}, 'limit', { get: () => { throw new Error('a trap'); } }),
    new Proxy({}, { get: () => { throw new TypeError('a trap'); } }),
  ];
  for (const options of wrong) {
    assert.throws(() => recommender.recommend(options), (error) => {
      assert.ok(error instanceof fixture.sanderling.RecommenderError);
      assert.equal(error.code, 'invalid_argument');
      return true;
    });
  }
  assert.equal(recommender.recommend({ limit: 4 }).recommendations.length, 4);
});

test('observe and similar refuse with typed errors', () => {
  for (const options of [undefined, null, {}, { itemId: 'a' }, { itemId: '', kind: 'view' }, { itemId: 'x'.repeat(513), kind: 'view' }, { itemId: 'a', kind: 'view', timestamp: 'now' }]) {
    assert.throws(() => recommender.observe(options), { code: 'invalid_argument' });
  }
  assert.throws(() => recommender.similar('no such item'), { name: 'RecommenderError', code: 'unknown_item' });
  assert.throws(() => recommender.similar(7), { code: 'invalid_argument' });
});

test('an object prototype cannot be reached through options', () => {
  recommender.recommend(JSON.parse('{"rules": {"__proto__": {"polluted": true}}, "context": {"__proto__": "polluted"}}'));
  assert.equal({}.polluted, undefined);
});

test('a freed recommender says so', async () => {
  const freed = await fixture.load({ consent: 'none' });
  freed.free();
  freed.free();
  assert.throws(() => freed.recommend(), { code: 'invalid_argument', message: 'the recommender was freed' });
  await assert.rejects(freed.export(), { code: 'invalid_argument' });
});
