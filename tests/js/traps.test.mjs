// What a page sees when the wasm instance stops in the middle of a call: a list, and an engine again.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';

import { openFixture } from './lib/fixture.mjs';

const NOW = 1_700_000_100;
let fixture;
let bindings;
/** What the clock that paces attempts is ahead. */
let skew = 0;

before(async () => {
  fixture = await openFixture();
  bindings = await import(pathToFileURL(join(fixture.project, 'node_modules/sanderling/wasm/sanderling_wasm.js')).href);
  const now = performance.now.bind(performance);
  performance.now = () => now() + skew;
});

/** Overwrites the memory of the instance that all engines of this process run in. */
async function poison() {
  const { memory } = await bindings.default();
  new Uint8Array(memory.buffer).fill(0xff);
}

const request = () => ({
  session: fixture.itemIds.slice(0, 4).map((itemId, step) => ({ itemId, kind: 'view', timestamp: NOW - 60 + step })), limit: 10, now: NOW, seed: 7,
});

/** The list of a recommender as soon as it comes from an engine again. */
async function recovered(recommender) {
  for (let attempt = 0; attempt < 200; attempt += 1) {
    const response = recommender.recommend(request());
    if (response.faults.length === 0) return response.recommendations;
    assert.deepEqual(response.faults.map(({ code }) => code), ['engine_failed']);
    assert.ok(response.recommendations.every(({ source }) => source === 'fallback'));
    await sleep(10);
  }
  return assert.fail('the engine did not come back');
}

test('a trap costs one list, every engine comes back with its counts, and the third trap is the last', async () => {
  const storage = new fixture.sanderling.MemoryStorage();
  const one = await fixture.loadOwn({ storage });
  const two = await fixture.sanderling.Recommender.load({ baseUrl: fixture.bundle, consent: 'none' });
  const { recommendations: before } = one.recommend(request());
  assert.deepEqual(two.recommend(request()).recommendations, before);
  await one.settled();
  const counted = one.engine.telemetryState();

  await poison();
  const { recommendations, faults } = one.recommend(request());
  assert.equal(faults[0].code, 'engine_failed');
  assert.match(faults[0].detail, /stopped in the middle/);
  assert.equal(recommendations.length, 10);
  assert.ok(recommendations.every(({ source }) => source === 'fallback'));
  assert.throws(() => one.similar(fixture.itemIds[0]), { code: 'inference_failed' });
  // Observing goes on, and what cannot be counted is not.
  one.observe({ itemId: fixture.itemIds[0], kind: 'view', timestamp: NOW });
  assert.deepEqual(await recovered(one), before);
  assert.deepEqual(one.session.map(({ itemId }) => itemId), [fixture.itemIds[0]]);
  // The other engine of the instance is opened again without having been called.
  assert.deepEqual(await recovered(two), before);
  const lists = (state) => state.current.num_lists;
  assert.ok(lists(one.engine.telemetryState()) > lists(counted), 'the counts before the trap are there');

  await poison();
  assert.equal(two.recommend(request()).faults[0].code, 'engine_failed');
  assert.match(two.recommend(request()).faults[0].detail, /being started again/);
  await sleep(50);
  assert.equal(two.recommend(request()).faults.length, 1, 'attempts keep a pause');
  skew += 60_000;
  assert.deepEqual(await recovered(two), before);
  two.free();
  assert.throws(() => two.recommend(request()), { code: 'invalid_argument' });
  assert.deepEqual(await recovered(one), before);

  // Arguments of another type are the caller's mistake, not the engine's.
  for (const wrong of [() => one.engine.rank(), () => one.engine.retrieve([1], 3), () => one.engine.hasItem(7), () => one.engine.rows('a')]) {
    assert.throws(wrong, { code: 'invalid_argument' });
  }
  assert.deepEqual(one.recommend(request()).recommendations, before);

  await poison();
  one.recommend(request());
  skew += 60_000;
  await sleep(50);
  // What a user takes back is gone without an engine, too.
  await one.setConsent('none');
  assert.equal(one.consent, 'none');
  assert.deepEqual(await storage.entries(), {});
  await one.erase();
  assert.deepEqual(one.session, []);
  const last = one.recommend(request());
  assert.match(last.faults[0].detail, /stopped too often/);
  assert.equal(last.recommendations.length, 10);
  await assert.rejects(fixture.loadOwn(), { code: 'inference_failed' });
  one.free();
});
