import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import { decodeVocabulary } from '../../www/pkg/dist/vocabulary.js';
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

/** A session of known items, so that a request reaches encoder and ranker. */
const session = () => fixture.itemIds.slice(0, 3).map((itemId, step) => ({ itemId, kind: 'view', timestamp: 1_700_000_000 + step }));

/** Recommends, and checks that nothing was degraded but the length of the list. */
function served(options) {
  const { recommendations, faults } = recommender.recommend({ session: session(), ...options });
  const harmless = ['too_few_items', 'limit_lowered'];
  assert.deepEqual(faults.filter(({ code }) => !harmless.includes(code)), [], JSON.stringify(options).slice(0, 200));
  assert.ok(recommendations.every(({ score, source }) => Number.isFinite(score) && source === 'retrieval'));
  return recommendations;
}

test('no value of the right type makes recommend throw or fall back', () => {
  assert.ok(served({}).length > 0);
  for (const number of NUMBERS) {
    for (const options of [
      { limit: number },
      { now: number },
      { seed: number },
      { session: session().map((interaction) => ({ ...interaction, timestamp: number })) },
      { rules: { categoryCap: number } },
      { rules: { pins: [{ itemId: 'nothing', position: number }], diversity: number, boosts: [{ itemIds: ['a'], categories: ['b'], add: number }] } },
      { rules: { filter: { minPrice: number, maxPrice: number } } },
    ]) served(options);
  }
  for (const text of TEXTS) {
    served({ rules: { exclude: [text, text] }, context: { [text]: text }, limit: 3 });
    served({ rules: { filter: { categories: [text] } }, limit: 3 });
  }
});

test('interactions that no bundle can know are left out, with a fault', () => {
  const impossible = [['', 'view'], ['x'.repeat(513), 'view'], ['a', ''], ['a', 'x'.repeat(65)]].map(([itemId, kind]) => ({ itemId, kind, timestamp: 1 }));
  const { recommendations, faults } = recommender.recommend({ session: [...session(), ...impossible], limit: 5, now: 1_700_000_100, seed: 1 });
  assert.deepEqual(faults, [{ code: 'unknown_items', detail: '4 of 7 session items have an id or kind that is empty or too long' }]);
  assert.deepEqual(recommendations, recommender.recommend({ session: session(), limit: 5, now: 1_700_000_100, seed: 1 }).recommendations);
  const alone = recommender.recommend({ session: impossible });
  assert.deepEqual(alone.faults.map(({ code }) => code), ['unknown_items', 'empty_session']);
  assert.equal(alone.recommendations.length, 10);
});

test('an engine that fails leaves the popularity list under the same rules', async () => {
  const { engine, itemIds } = fixture;
  const vocabulary = decodeVocabulary(fixture.files['vocabulary.bin']);
  const [category] = vocabulary.categories;
  const median = vocabulary.prices.filter((price) => price !== null).toSorted((left, right) => left - right)[vocabulary.prices.length >> 1];
  const rules = [
    {}, { exclude: itemIds.slice(2, 6) }, { only: itemIds.slice(3, 9) }, { excludeSeen: false }, { categoryCap: 1 }, { filter: { categories: [category] } },
    { filter: { minPrice: median } }, { filter: { maxPrice: median }, categoryCap: 2 },
  ];
  const seen = itemIds.slice(0, 2);
  // What the engine itself serves without a session, with the seen items excluded by name.
  const expected = rules.map((each) => {
    const exclude = [...(each.exclude ?? []), ...(each.excludeSeen === false ? [] : seen)];
    return recommender.recommend({ session: [], limit: 7, rules: { ...each, exclude } }).recommendations;
  });
  engine.recommend = () => {
    throw new WebAssembly.RuntimeError('unreachable');
  };
  try {
    const failing = await fixture.load({ consent: 'none' });
    for (const itemId of seen) failing.observe({ itemId, kind: 'view' });
    for (const [index, each] of rules.entries()) {
      const { recommendations, faults } = failing.recommend({ limit: 7, rules: each });
      assert.deepEqual(recommendations, expected[index], JSON.stringify(each));
      assert.deepEqual(faults, [{ code: 'engine_failed', detail: 'the engine failed: found unreachable' }]);
    }
    assert.equal(failing.recommend({ limit: 1e9 }).recommendations.length, Math.min(failing.bundle.limits.maxLimit, itemIds.length - 2));
  } finally {
    delete engine.recommend;
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
    { rules: { exclude: [1] } }, { rules: { only: 'a' } }, { rules: { excludeSeen: 'yes' } }, { rules: { filter: 3 } }, { rules: { filter: { minPrice: '1' } } },
    { context: { page: 1 } }, { context: 'x' }, { session: {} }, { session: [null] }, { session: [{ itemId: 1, kind: 'view', timestamp: 0 }] },
    { session: [{ itemId: 'a', kind: 3 }] }, { session: [{ itemId: 'a', kind: 'view', timestamp: 'now' }] }, { limit: Symbol('many') },
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
  for (const options of [undefined, null, {}, { itemId: 'a' }, { itemId: '', kind: 'view' }, { itemId: 'x'.repeat(513), kind: 'view' }, { itemId: 'a', kind: 'view', timestamp: 'now' }, { itemId: 'a', kind: 'view', timestamp: Date.now() }]) {
    assert.throws(() => recommender.observe(options), { code: 'invalid_argument' });
  }
  assert.throws(() => recommender.observe({ itemId: 'a', kind: 'view', timestamp: 1_800_000_000_000 }), {
    message: 'timestamp is out of range: expected Unix seconds, found 1800000000000; divide milliseconds by 1000',
  });
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
  assert.throws(() => freed.recommend(), { code: 'invalid_argument', message: 'the recommender was freed; load it again' });
  await assert.rejects(freed.export(), { code: 'invalid_argument' });
});
