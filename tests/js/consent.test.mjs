import assert from 'node:assert/strict';
import { after, afterEach, before, beforeEach, test } from 'node:test';

import { startCollector } from './lib/collector.mjs';
import { browse, openFixture } from './lib/fixture.mjs';

let fixture;
let collector;

before(async () => {
  fixture = await openFixture();
});

beforeEach(async () => {
  collector = await startCollector();
});

afterEach(async () => {
  delete globalThis.navigator;
  await collector.close();
});

after(() => fixture.engine.free());

/** A storage that notes every call that could write, and those that did. */
function watchedStorage(records) {
  const storage = new fixture.sanderling.MemoryStorage(records);
  const calls = [];
  const writes = [];
  const update = storage.update.bind(storage);
  storage.update = (key, change) => {
    calls.push(key);
    return update(key, (current) => {
      const next = change(current);
      // Taking nothing away from nothing is no write.
      if (current !== undefined || next !== undefined) writes.push(key);
      return next;
    });
  };
  return { storage, calls, writes };
}

function browserSignals(signals) {
  Object.defineProperty(globalThis, 'navigator', { value: signals, configurable: true });
}

test('the default keeps on the device and sends nothing', async () => {
  const { storage } = watchedStorage();
  const recommender = await fixture.load({ storage, collectorUrl: collector.url, autoSend: true });
  browse(recommender, fixture.itemIds);
  assert.equal(recommender.consent, 'device');
  assert.equal((await recommender.telemetry.flush()).notReportable, 'consent');
  assert.equal((await storage.get('session')).length, 3);
  assert.equal(collector.received.length, 0);
});

test('what was kept goes when a load without consent begins, whatever becomes of it', async () => {
  const { Recommender } = fixture.sanderling;
  const kept = () => watchedStorage({ session: [{ item_id: 'a', kind: 'view', timestamp: 1 }] }).storage;
  const failed = kept();
  await assert.rejects(Recommender.load({ files: {}, storage: failed, consent: 'none' }));
  assert.deepEqual(await failed.entries(), {});
  const waiting = kept();
  void Recommender.load({ baseUrl: 'https://bundle.invalid/', fetch: () => new Promise(() => {}), storage: waiting, consent: 'none' });
  await new Promise((done) => setImmediate(done));
  assert.deepEqual(await waiting.entries(), {});
  // A caller's storage that throws is nobody's failure.
  const broken = Object.assign(kept(), { clear: () => { throw new Error('broken'); } });
  (await fixture.load({ storage: broken, consent: 'none' })).free();
});

test('what is stored once consent is given comes behind what was to be forgotten', async () => {
  const { storage } = watchedStorage({ session: [] });
  const clear = storage.clear.bind(storage);
  storage.clear = async () => {
    await new Promise((done) => setTimeout(done, 50));
    await clear();
  };
  const recommender = await fixture.load({ storage, consent: 'none' });
  await recommender.setConsent('device');
  recommender.observe({ itemId: fixture.itemIds[0], kind: 'view' });
  await recommender.settled();
  await new Promise((done) => setTimeout(done, 100));
  assert.equal((await storage.get('session')).length, 1);
  recommender.free();
});

test('without consent nothing is written, and recommending works', async () => {
  const { storage, calls } = watchedStorage();
  const recommender = await fixture.load({ storage, consent: 'none', collectorUrl: collector.url, autoSend: true });
  const { recommendations } = browse(recommender, fixture.itemIds);
  recommender.recordOutcome({ position: 1 });
  await recommender.telemetry.flush();
  await recommender.settled();
  assert.equal(recommendations.length, 5);
  assert.deepEqual(calls, []);
  assert.equal(collector.received.length, 0);
});

test('loading without consent removes what an earlier consent had stored', async () => {
  const { storage } = watchedStorage({ session: [{ item_id: fixture.itemIds[0], kind: 'view', timestamp: 1 }] });
  const recommender = await fixture.load({ storage, consent: 'none' });
  assert.deepEqual(recommender.session, []);
  assert.deepEqual(await storage.entries(), {});
});

test('taking consent back erases storage and keeps the page working', async () => {
  const { storage } = watchedStorage();
  const recommender = await fixture.load({ storage, consent: 'share', collectorUrl: collector.url });
  browse(recommender, fixture.itemIds);
  await recommender.settled();
  assert.ok(Object.keys(await storage.entries()).length > 0);
  await recommender.setConsent('none');
  assert.deepEqual(await storage.entries(), {});
  browse(recommender, fixture.itemIds);
  await recommender.settled();
  assert.deepEqual(await storage.entries(), {});
  assert.equal((await recommender.telemetry.flush()).notReportable, 'consent');
});

test('consent that is taken back while storage opens stores nothing', async () => {
  const { storage } = watchedStorage();
  const recommender = await fixture.load({ storage, consent: 'none' });
  const entries = storage.entries.bind(storage);
  let open;
  const opened = new Promise((done) => {
    open = done;
  });
  storage.entries = () => opened.then(entries);
  const given = recommender.setConsent('device');
  await new Promise(setImmediate);
  const taken = recommender.setConsent('none');
  open();
  await Promise.all([given, taken]);
  browse(recommender, fixture.itemIds);
  await recommender.settled();
  assert.deepEqual([recommender.consent, await entries()], ['none', {}]);
  await recommender.setConsent('device');
  assert.equal((await recommender.export()).records.session.length, 3);
});

test('each consent that is taken back counts, however soon it comes again', async () => {
  await collector.close();
  const { storage } = watchedStorage();
  const recommender = await fixture.load({ storage, consent: 'share', collectorUrl: collector.url });
  browse(recommender, fixture.itemIds);
  assert.equal((await recommender.telemetry.flush()).waiting, 1);
  await Promise.all([recommender.setConsent('device'), recommender.setConsent('share')]);
  assert.deepEqual((await recommender.telemetry.preview()).outbox, []);
  await storage.update('other', () => 1);
  await Promise.all([recommender.setConsent('none'), recommender.setConsent('device')]);
  assert.equal(await storage.get('other'), undefined);
  assert.equal(recommender.consent, 'device');
});

test('what is written while consent changes is neither lost nor doubled, nor left behind', async () => {
  const storage = new fixture.sanderling.MemoryStorage();
  const update = storage.update.bind(storage);
  storage.update = async (key, change) => {
    for (let turn = 0; turn < 3; turn += 1) await new Promise(setImmediate);
    return update(key, change);
  };
  const recommender = await fixture.load({ storage, consent: 'device' });
  const ids = fixture.itemIds.slice(0, 12);
  for (const [step, itemId] of ids.entries()) {
    recommender.observe({ itemId, kind: 'view', timestamp: step + 1 });
    if (step === 3) void recommender.setConsent('none');
    if (step === 7) void recommender.setConsent('device');
    for (let turn = 0; turn < step % 4; turn += 1) await new Promise(setImmediate);
  }
  await recommender.setConsent('device');
  await recommender.settled();
  assert.deepEqual(recommender.session.map(({ itemId }) => itemId), ids);
  assert.deepEqual((await storage.get('session')).map(({ item_id: itemId }) => itemId), ids);
  void recommender.observe({ itemId: ids[0], kind: 'view', timestamp: 20 });
  const gone = recommender.setConsent('none');
  recommender.observe({ itemId: ids[1], kind: 'view', timestamp: 21 });
  await gone;
  await recommender.settled();
  assert.deepEqual(await storage.entries(), {});
  assert.equal(recommender.session.length, ids.length + 2);
});

test('consent that cannot be taken back says so, and can be taken back again', async () => {
  const { storage } = watchedStorage();
  const recommender = await fixture.load({ storage, consent: 'device' });
  browse(recommender, fixture.itemIds);
  await recommender.settled();
  const clear = storage.clear.bind(storage);
  storage.clear = () => Promise.reject(new Error('locked'));
  await assert.rejects(recommender.setConsent('none'), { code: 'io' });
  assert.ok((await storage.entries()).session.length > 0);
  storage.clear = clear;
  await recommender.setConsent('none');
  assert.deepEqual(await storage.entries(), {});
  await recommender.setConsent('device');
  await recommender.settled();
  assert.equal((await storage.get('session')).length, 3);
});

test('what happens while storage opens is kept, and reported from there alone', async () => {
  const { storage } = watchedStorage();
  const recommender = await fixture.load({ storage, consent: 'none', collectorUrl: collector.url });
  const entries = storage.entries.bind(storage);
  let open;
  const opened = new Promise((done) => {
    open = done;
  });
  storage.entries = () => opened.then(entries);
  const given = recommender.setConsent('share');
  await new Promise(setImmediate);
  browse(recommender, fixture.itemIds);
  assert.equal((await recommender.telemetry.flush()).notReportable, 'no_storage');
  open();
  await given;
  const { closed, accepted } = await recommender.telemetry.flush();
  assert.deepEqual([closed, accepted], [true, 1]);
});

test('what a page has in memory stays when consent goes', async () => {
  const { storage } = watchedStorage();
  const recommender = await fixture.load({ storage, consent: 'device' });
  browse(recommender, fixture.itemIds);
  await recommender.setConsent('none');
  recommender.observe({ itemId: fixture.itemIds[0], kind: 'view' });
  await recommender.settled();
  assert.equal(recommender.session.length, 4);
  assert.deepEqual(await storage.entries(), {});
});

test('giving consent stores from then on', async () => {
  const { storage } = watchedStorage();
  const recommender = await fixture.load({ storage, consent: 'none' });
  browse(recommender, fixture.itemIds);
  await recommender.setConsent('device');
  await recommender.settled();
  assert.equal((await storage.get('session')).length, 3);
});

test('going back from share to device discards what waits', async () => {
  await collector.close();
  const { storage } = watchedStorage();
  const recommender = await fixture.load({ storage, consent: 'share', collectorUrl: collector.url });
  browse(recommender, fixture.itemIds);
  assert.equal((await recommender.telemetry.flush()).waiting, 1);
  await recommender.setConsent('device');
  assert.equal((await recommender.telemetry.preview()).outbox.length, 0);
  collector = await startCollector();
});

for (const [signal, navigator] of [['gpc', { globalPrivacyControl: true }], ['dnt', { doNotTrack: '1' }]]) {
  test(`${signal} without a choice is no consent: nothing is written`, async () => {
    browserSignals(navigator);
    const { storage, calls, writes } = watchedStorage();
    const recommender = await fixture.load({ storage, collectorUrl: collector.url, autoSend: true });
    assert.equal(recommender.consent, 'none');
    browse(recommender, fixture.itemIds);
    await recommender.telemetry.flush();
    await recommender.settled();
    assert.deepEqual(calls, []);
    await recommender.setConsent('device');
    await recommender.settled();
    assert.deepEqual(writes, ['session']);
  });

  test(`${signal} caps consent before the first write, and nothing is ever sent`, async () => {
    browserSignals(navigator);
    const { storage, writes } = watchedStorage();
    const recommender = await fixture.load({ storage, consent: 'share', collectorUrl: collector.url, autoSend: true });
    assert.equal(recommender.consent, 'device');
    assert.equal(recommender.privacySignal, signal);
    browse(recommender, fixture.itemIds);
    const preview = await recommender.telemetry.preview();
    assert.deepEqual([preview.report, preview.notReportable, preview.privacySignal], [null, 'privacy_signal', signal]);
    await recommender.setConsent('share');
    assert.equal((await recommender.telemetry.flush()).notReportable, 'privacy_signal');
    await recommender.settled();
    assert.equal(collector.received.length, 0);
    // What `device` allows was written from the start, and never a report.
    assert.ok(writes.includes('session') && writes.some((key) => key.startsWith('telemetry/')));
    assert.equal(await storage.get('reports'), undefined);
  });
}

test('a signal that appears later stops reports that already wait', async () => {
  const { storage } = watchedStorage();
  const recommender = await fixture.load({ storage, consent: 'share', collectorUrl: collector.url });
  browse(recommender, fixture.itemIds);
  await storage.update('reports', () => ({ lastWindowStart: 0, outbox: [{ reportId: 'a', windowStart: 0, body: '{}', attempts: 0, notBefore: 0 }] }));
  browserSignals({ globalPrivacyControl: true });
  await recommender.telemetry.flush();
  assert.equal(collector.received.length, 0);
});

test('a consent that does not exist is refused', async () => {
  await assert.rejects(fixture.load({ consent: 'yes' }), { name: 'RecommenderError', code: 'invalid_argument' });
});
