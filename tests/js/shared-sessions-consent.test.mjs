// Sharing of sessions: above all when nothing leaves a device, and that it is removed.
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { IDLE, DAY, storage, start, now, share, json, collector, view, later, watched, live } from './lib/sharing.mjs';

test('without consent nothing is written or sent, and what an earlier consent had left is removed', async () => {
  const { fetch, received } = collector();
  const recommender = await share();
  const first = await start(recommender, { fetch });
  const end = view(recommender);
  assert.equal((await first.preview({ now: later(end) })).waiting.length, 1);
  first.stop();
  const none = await start(recommender, { fetch, consent: undefined });
  assert.deepEqual(await storage.entries(), {});
  assert.equal((await none.flush({ now: later(end) })).notShared, 'consent');
  const { writes, storage: watching } = watched();
  const never = await start(recommender, { fetch, consent: 'none', storage: watching });
  view(recommender, 3, later(end) + IDLE);
  const { waiting, consent, notShared } = await never.preview({ now: now + DAY });
  assert.deepEqual([waiting, consent, notShared, writes], [[], 'none', 'consent', []]);
  assert.deepEqual((await never.export()).records, {});
  assert.equal(received.length, 0);
});

test('a consent that is taken back deletes what waits, and given again it is for what comes', async () => {
  const { fetch, received } = collector();
  const recommender = await share();
  const sharing = await start(recommender, { fetch });
  const end = view(recommender);
  assert.equal((await sharing.preview({ now: later(end) })).waiting.length, 1);
  await sharing.setConsent('none');
  assert.deepEqual(await storage.entries(), {});
  await sharing.setConsent('sessions');
  assert.equal((await sharing.flush({ now: later(end) })).queued, 0);
  const next = view(recommender, 2, later(end));
  assert.equal((await sharing.flush({ now: later(next) })).accepted, 1);
  assert.equal(received[0].session.interactions.length, 2);
});

test('a consent that is taken back in one tab is gone in the other', async () => {
  const { fetch, received } = collector();
  const recommender = await share();
  const [left, right] = [await start(recommender, { fetch }), await start(recommender, { fetch })];
  const end = view(recommender);
  await left.setConsent('none');
  const { queued, notShared } = await right.flush({ now: later(end) });
  assert.deepEqual([queued, notShared, right.consent, received.length], [0, 'consent', 'none', 0]);
  assert.deepEqual(await storage.entries(), {});
});

for (const whose of ['sharing', 'recommender']) {
  test(`a consent of the ${whose} that is taken back while a session is sent sends no other`, async () => {
    const consents = {};
    const { fetch, received } = collector(async ({ session_id: id }) => {
      await consents[whose].setConsent(whose === 'sharing' ? 'none' : 'device');
      return json(201, { session_id: id, status: 'accepted' });
    });
    consents.recommender = await share();
    consents.sharing = await start(consents.recommender, { fetch });
    const first = view(consents.recommender);
    const second = view(consents.recommender, 2, later(first));
    await consents.sharing.flush({ now: later(second) });
    await consents.sharing.flush({ now: later(second) + DAY });
    assert.equal(received.length, 1);
    assert.deepEqual(await storage.entries(), {});
  });
}

for (const level of ['device', 'none']) {
  test(`a recommender's consent that is lowered to ${level} deletes what waits`, async () => {
    const { fetch, received } = collector();
    const recommender = await share();
    const sharing = await start(recommender, { fetch });
    const end = view(recommender);
    assert.equal((await sharing.preview({ now: later(end) })).waiting.length, 1);
    await recommender.setConsent(level);
    assert.deepEqual(await storage.entries(), {}, 'at once');
    assert.equal(sharing.consent, 'none');
    const { notShared } = await sharing.flush({ now: later(end) });
    assert.deepEqual([notShared, received.length, await storage.entries()], ['recommender_consent', 0, {}]);
    await recommender.setConsent('share');
    assert.equal((await sharing.flush({ now: later(end) })).queued, 0, 'what was done meanwhile is not shared');
  });
}

for (const [signal, navigator] of [['gpc', { globalPrivacyControl: true }], ['dnt', { doNotTrack: '1' }]]) {
  test(`${signal} deletes what waits, and nothing is sent or written`, async () => {
    const { fetch, received } = collector();
    const recommender = await share();
    const sharing = await start(recommender, { fetch });
    const end = view(recommender);
    await sharing.preview({ now: later(end) });
    Object.defineProperty(globalThis, 'navigator', { value: navigator, configurable: true });
    const { notShared } = await sharing.flush({ now: later(end) });
    assert.deepEqual([notShared, sharing.consent, received.length, await storage.entries()], ['privacy_signal', 'none', 0, {}]);
    const { writes, storage: watching } = watched();
    const under = await start(recommender, { fetch, storage: watching });
    const { privacySignal, waiting } = await under.preview({ now: later(end) });
    assert.deepEqual([privacySignal, waiting, writes], [signal, [], []]);
  });
}

test('what cannot be deleted is said, and deleted when it can', async (t) => {
  globalThis.reportError = () => {};
  t.after(() => delete globalThis.reportError);
  const { storage: stuck } = watched();
  let isStuck = false;
  for (const method of ['update', 'clear']) {
    const work = stuck[method].bind(stuck);
    stuck[method] = (...given) => (isStuck ? Promise.reject(new Error('the disk is full')) : work(...given));
  }
  const recommender = await share();
  const sharing = await start(recommender, { storage: stuck });
  const end = view(recommender);
  await sharing.preview({ now: later(end) });
  isStuck = true;
  const codeOf = (work) => work.then(() => 'ok', ({ code }) => code);
  assert.equal(await codeOf(sharing.erase()), 'io');
  assert.equal(await codeOf(recommender.erase()), 'io', 'nor does the recommender say that all of it is gone');
  assert.equal(await codeOf(sharing.setConsent('none')), 'io');
  assert.equal(await codeOf(sharing.setConsent('none')), 'io', 'still');
  isStuck = false;
  assert.equal(await codeOf(sharing.setConsent('none')), 'ok');
  assert.deepEqual(await stuck.entries(), {});
});

test('erasing deletes what waits and shares nothing of what was done until then', async () => {
  const recommender = await share();
  const sharing = await start(recommender);
  const end = view(recommender);
  await sharing.preview({ now: later(end) });
  const open = view(recommender, 2, later(end));
  assert.ok(JSON.stringify((await sharing.export()).records).includes('padding'));
  await sharing.erase();
  const { waiting } = await sharing.preview({ now: later(open) });
  assert.deepEqual(waiting, []);
  const next = view(recommender, 2, later(open));
  assert.equal((await sharing.flush({ now: later(next) })).accepted, 1);
});

test('what the recommender erases, sharing erases, until it is stopped', async () => {
  const { fetch, received } = collector();
  const recommender = await share();
  const sharing = await start(recommender, { fetch });
  const end = view(recommender);
  assert.equal((await sharing.preview({ now: later(end) })).waiting.length, 1);
  await recommender.erase();
  assert.deepEqual((await storage.get('sessions')).waiting, []);
  assert.equal((await sharing.flush({ now: later(end) + DAY })).queued, 0);
  assert.equal(received.length, 0);
  sharing.stop();
  await recommender.erase();
});

test('what goes on from a session that the recommender erased is not shared, whatever the clock says', async () => {
  const { fetch, received } = collector();
  const recommender = await share();
  const sharing = await start(recommender, { fetch });
  const end = view(recommender, 3, now + 600);
  await recommender.erase();
  const next = view(recommender, 2, end + 5);
  assert.equal((await sharing.flush({ now: later(next) + DAY })).queued, 0);
  assert.equal(received.length, 0);
});

test('a consent that is lowered behind a privacy signal deletes what waits', async () => {
  const recommender = await share();
  const sharing = await start(recommender);
  const end = view(recommender);
  assert.equal((await sharing.preview({ now: later(end) })).waiting.length, 1);
  Object.defineProperty(globalThis, 'navigator', { value: { globalPrivacyControl: true }, configurable: true });
  await recommender.setConsent('device');
  assert.deepEqual(await storage.entries(), {});
});

test('a companion that fails stops neither the recommender nor the others', async (t) => {
  const failures = [];
  globalThis.reportError = (error) => failures.push(error.message);
  t.after(() => delete globalThis.reportError);
  const recommender = await share();
  const called = [];
  recommender.attach({ consentChanged: () => { throw new Error('at once'); }, erase: () => Promise.reject(new Error('later')) });
  const leave = recommender.attach({ consentChanged: async () => called.push('consent'), erase: async () => called.push('erase') });
  view(recommender);
  await assert.rejects(recommender.erase(), { code: 'io' }, 'something may be stored still');
  assert.deepEqual(recommender.session, []);
  await assert.rejects(recommender.setConsent('none'), { code: 'io' });
  assert.equal(recommender.consent, 'none');
  assert.deepEqual([called, failures], [['erase', 'consent'], ['later', 'at once']]);
  leave();
  await recommender.setConsent('share');
  assert.equal(called.length, 2);
});

test('it works by itself: a privacy signal that is switched on is noticed within half a minute', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout', 'Date'], now: now * 1000 });
  // The longest delay: one in fifty that are drawn is over before the consent is lowered.
  t.mock.method(crypto, 'getRandomValues', (array) => {
    new Uint8Array(array.buffer).fill(255);
    return array;
  });
  const recommender = await share();
  const sharing = await start(recommender, { autoSend: true, maxDelaySeconds: DAY });
  view(recommender, 3, now);
  await live(t.mock.timers, 2 * IDLE);
  assert.equal((await sharing.preview()).waiting.length, 1);
  Object.defineProperty(globalThis, 'navigator', { value: { globalPrivacyControl: true }, configurable: true });
  await live(t.mock.timers, 30);
  assert.deepEqual(await storage.entries(), {});
});
