// The correction of the ranker that is learned for one user: where it is kept, what it changes, and who hears of it.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import { openFixture } from './lib/fixture.mjs';
import { importFrom } from './lib/node.mjs';

const START = 1_700_000_000;
let fixture;

before(async () => {
  fixture = await openFixture();
});

after(() => fixture.engine.free());

const memory = (records) => new fixture.sanderling.MemoryStorage(records);

/** A recommender that personalises, with an engine of its own unless one is given. */
const loadOwn = (options = {}) => fixture.loadOwn({ personalise: true, ...options });

/** Looks at two items; the user then takes what is second in a list of five, wherever it is by then, as often as asked. */
function choose(recommender, times = 1) {
  if (recommender.session.length === 0) {
    for (const itemId of fixture.itemIds.slice(3, 5)) recommender.observe({ itemId, kind: 'view', timestamp: START });
  }
  const wanted = lists(recommender)[1];
  for (let at = 0; at < times; at += 1) {
    recommender.recordOutcome({ position: lists(recommender).indexOf(wanted) + 1 });
  }
  return wanted;
}

const lists = (recommender) => recommender.recommend({ limit: 5, now: START + 60 }).recommendations.map(({ itemId }) => itemId);

test('nothing is learned unless the site asks for it', async () => {
  const storage = memory();
  const recommender = await fixture.loadOwn({ storage });
  const plain = lists(recommender);
  choose(recommender, 3);
  await recommender.settled();
  assert.equal(await storage.get('correction'), undefined);
  assert.ok(plain.length > 0);
  recommender.free();
  await assert.rejects(fixture.load({ personalise: 'yes' }), { code: 'invalid_argument' });
});

test('what is chosen rises, and its score stays that of the ranker', async () => {
  const recommender = await loadOwn();
  const wanted = choose(recommender, 0);
  const before = recommender.recommend({ limit: 5, now: START + 60 }).recommendations;
  const revision = recommender.revision;
  choose(recommender, 40);
  assert.equal(recommender.revision, revision + 40, 'each choice may change what is recommended');
  const after = recommender.recommend({ limit: 5, now: START + 60 }).recommendations;
  const find = (list) => list.find(({ itemId }) => itemId === wanted);
  assert.ok(find(after).position < find(before).position, `${find(before).position} to ${find(after).position}`);
  assert.equal(find(after).score, find(before).score);
  recommender.recordOutcome();
  assert.equal(recommender.revision, revision + 40, 'nothing was chosen');
  recommender.free();
});

test('it is remembered between visits, exported, and erased', async () => {
  const storage = memory();
  const first = await loadOwn({ storage });
  choose(first, 40);
  const learned = lists(first);
  await first.settled();
  first.free();
  const second = await loadOwn({ storage });
  assert.deepEqual(lists(second), learned);
  const { records } = await second.export();
  assert.equal(records.correction.num_updates, 40);
  await second.erase();
  assert.equal(await storage.get('correction'), undefined);
  choose(second, 0);
  const forgotten = lists(second);
  assert.notDeepEqual(forgotten, learned);
  // One that does not personalise erases it, too.
  await storage.update('correction', () => records.correction);
  const other = await fixture.loadOwn({ storage });
  assert.deepEqual(other.recommend({ session: second.session, limit: 5, now: START + 60 }).recommendations.map(({ itemId }) => itemId), forgotten);
  await other.erase();
  assert.equal(await storage.get('correction'), undefined);
  second.free();
  other.free();
});

test('without consent it is in memory only', async () => {
  const storage = memory();
  const recommender = await loadOwn({ storage, consent: 'none' });
  choose(recommender, 3);
  await recommender.settled();
  assert.deepEqual(await storage.entries(), {});
  await recommender.setConsent('device');
  await recommender.settled();
  assert.equal((await storage.get('correction')).num_updates, 3);
  await recommender.setConsent('none');
  assert.deepEqual(await storage.entries(), {});
  recommender.free();
});

test('one that the bundle cannot use is dropped', async () => {
  const storage = memory();
  const first = await loadOwn({ storage });
  choose(first, 2);
  await first.settled();
  first.free();
  const good = await storage.get('correction');
  for (const wrong of [
    { ...good, feature_spec_sha256: '0'.repeat(64) }, { ...good, format_version: 2 }, { ...good, sums: good.sums.slice(3) },
    { ...good, sums: good.sums.map(() => 'x') }, { ...good, sums: null }, { ...good, num_updates: 0.5 }, [], 'text',
  ]) {
    await storage.update('correction', () => wrong);
    const recommender = await loadOwn({ storage });
    assert.equal(await storage.get('correction'), undefined, JSON.stringify(wrong));
    choose(recommender);
    await recommender.settled();
    assert.equal((await storage.get('correction')).num_updates, 1);
    recommender.free();
  }
});

test('two recommenders on one storage teach one correction, and an erase is not undone', async () => {
  const storage = memory();
  const left = await loadOwn({ storage });
  const right = await loadOwn({ storage });
  choose(left, 3);
  choose(right, 2);
  await Promise.all([left.settled(), right.settled()]);
  assert.equal((await storage.get('correction')).num_updates, 5);
  const revision = right.revision;
  await right.settled();
  assert.equal(right.revision, revision, 'its own choices are no news');
  choose(left);
  await left.settled();
  const both = await storage.get('correction');
  assert.equal(both.num_updates, 6);
  const alone = await loadOwn();
  choose(alone, 3);
  const { records } = await alone.export();
  const largest = (correction) => correction.sums.filter((_, at) => at % 3 === 2);
  for (const [at, difference] of largest(records.correction).entries()) assert.ok(largest(both)[at] >= difference);
  await right.erase();
  choose(left);
  await left.settled();
  assert.equal((await storage.get('correction')).num_updates, 1);
  for (const recommender of [left, right, alone]) recommender.free();
});

test('another\'s session is neither corrected nor learned from, unless a correction comes with it', async () => {
  const asked = [];
  const engine = new Proxy(fixture.engine, {
    get: (target, name) => {
      const value = target[name];
      if (name === 'recommend') return (request) => (asked.push(request.correction), target.recommend(request));
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
  const recommender = await fixture.load({ engine, personalise: true });
  choose(recommender, 2);
  const { correction } = (await recommender.export()).records;
  asked.length = 0;
  const session = recommender.session;
  recommender.recommend({ session });
  recommender.recordOutcome({ position: 2 });
  recommender.recommend({ session, correction });
  recommender.recommend({ session, correction: { ...correction, format_version: 9 } });
  recommender.recommend();
  assert.deepEqual(asked.map((one) => one?.num_updates), [undefined, 2, undefined, 2]);
  const { decodeRequest } = await importFrom(fixture.project, 'wire');
  const decoded = decodeRequest({ correction });
  assert.deepEqual(decoded.correction, correction);
  assert.throws(() => decodeRequest({ correction: 3 }), { code: 'invalid_argument' });
  recommender.free();
});

test('no report has any of it', async () => {
  const storage = memory();
  const recommender = await loadOwn({ storage, consent: 'share', collectorUrl: 'https://collector.invalid' });
  choose(recommender, 5);
  const { body, report, state } = await recommender.telemetry.preview();
  const { sums } = (await recommender.export()).records.correction;
  assert.equal(typeof body, 'string');
  const told = JSON.stringify([report, state]);
  for (const sum of sums.filter((value) => value !== 0 && value !== 1)) assert.ok(!told.includes(String(sum)));
  assert.ok(!/correction|sums/.test(told));
  recommender.free();
});
