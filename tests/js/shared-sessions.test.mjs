// Sharing of sessions: what leaves a device, when and how often.
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';

import { REPO } from './lib/paths.mjs';
import {
  IDLE, DAY, COLLECTOR, fixture, SharedSessions, encodeSharedSession, storage, start,
  now, share, json, problem, collector, view, later, watched, live,
} from './lib/sharing.mjs';

test('every golden session is encoded as the Rust crates encode it', async () => {
  const { cases } = JSON.parse(await readFile(join(REPO, 'crates/sanderling-types/tests/golden/shared_session.json'), 'utf8'));
  const good = cases.filter(({ expected }) => expected === 'ok');
  assert.ok(good.length >= 8);
  let numEqual = 0;
  for (const { name, text, padded_to: paddedTo } of good) {
    const body = text.replace('@', () => ' '.repeat(paddedTo + 1 - Buffer.byteLength(text)));
    const { session_id: sessionId, bundle_sha256: bundleHash, day, interactions, padding } = JSON.parse(body);
    const encoded = encodeSharedSession({
      sessionId, bundleHash, day, interactions: interactions.map(({ item_id: itemId, kind }) => ({ itemId, kind })),
    });
    // A reader takes more than a writer makes: keys in another order, and more padding than is needed.
    const isCanonical = body.startsWith('{"format_version"') && padding.length < 1024;
    if (isCanonical) assert.equal(encoded, body, name);
    else assert.deepEqual({ ...JSON.parse(encoded), padding: '' }, { ...JSON.parse(body), padding: '' }, name);
    numEqual += Number(isCanonical);
  }
  assert.ok(numEqual >= 6, `${numEqual} of ${good.length}`);
});

test('the newest interactions that fit are kept, padded, and what the format does not hold stays behind', () => {
  const encode = (interactions) => JSON.parse(checked(encodeSharedSession({ sessionId: '0f'.repeat(16), bundleHash: '51'.repeat(32), day: 20_000 * DAY, interactions })));
  const checked = (body) => {
    assert.ok(Buffer.byteLength(body) % 1024 === 0 && Buffer.byteLength(body) <= 8192, `${Buffer.byteLength(body)}`);
    return body;
  };
  const of = (itemId, kind = 'view') => ({ itemId, kind });
  const many = Array.from({ length: 70 }, (_, at) => of(`item-${at}`));
  assert.deepEqual(encode(many).interactions.map(({ item_id: id }) => id), many.slice(20).map(({ itemId }) => itemId));
  const long = Array.from({ length: 70 }, (_, at) => of(String(at).padStart(500, '0'), 'add-to-cart'));
  const kept = encode(long);
  assert.deepEqual(kept.interactions.map(({ item_id: id }) => id), long.slice(70 - kept.interactions.length).map(({ itemId }) => itemId));
  assert.ok(kept.padding.length < 550, 'one more would not have fitted');
  const bad = [of('c', ''), of('c', 'View'), of('c', 'my own words'), of('c', 'v'.repeat(33)), of(''), of('i'.repeat(513)), of('\ud800')];
  assert.deepEqual(encode([of('a'), ...bad, of('b', 'cart_2-x')]).interactions, [{ item_id: 'a', kind: 'view' }, { item_id: 'b', kind: 'cart_2-x' }]);
  assert.equal(encode([of('\u{1f600}'.repeat(512))]).interactions.length, 1, 'characters are counted, not UTF-16 units');
  assert.throws(() => encode(bad), { code: 'invalid_argument' });
});

test('a session that ended is shared as the preview showed it, without any time but the day', async () => {
  const { fetch, received } = collector();
  const recommender = await share();
  const sharing = await start(recommender, { fetch });
  const end = view(recommender);
  assert.deepEqual((await sharing.preview({ now: end + IDLE })).waiting, [], 'it may go on');
  const { waiting: [waiting], consent, notShared } = await sharing.preview({ now: later(end) });
  assert.deepEqual([consent, notShared], ['sessions', null]);
  const { nextAttemptAt, ...result } = await sharing.flush({ now: later(end) });
  assert.deepEqual(result, { queued: 0, notShared: null, accepted: 1, duplicate: 0, dropped: [], waiting: 0 });
  assert.equal(nextAttemptAt, null);
  const [{ url, init, body, session }] = received;
  assert.equal(body, waiting.body);
  assert.equal(`${init.method} ${url}`, 'POST https://collector.example/v1/sessions');
  assert.deepEqual([init.credentials, init.referrerPolicy, init.headers], ['omit', 'no-referrer', { 'content-type': 'text/plain;charset=UTF-8' }]);
  assert.deepEqual(session, {
    format_version: 1, session_id: waiting.sessionId, bundle_sha256: recommender.bundle.hash, day: Math.floor(end / DAY) * DAY,
    interactions: fixture.itemIds.slice(0, 3).map((item_id) => ({ item_id, kind: 'view' })), padding: session.padding,
  });
  assert.match(session.session_id, /^[0-9a-f]{32}$/);
  await sharing.flush({ now: later(end) + DAY });
  assert.equal(received.length, 1);
});

test('a session that began before the consent is not shared, whatever comes after in it', async () => {
  const recommender = await share();
  const open = view(recommender, 3, now - 600);
  const sharing = await start(recommender);
  let end = view(recommender, 3, open + IDLE - 60);
  assert.equal((await sharing.flush({ now: later(end) })).queued, 0, 'it goes on from what was before');
  end = view(recommender, 2, later(end));
  assert.equal((await sharing.flush({ now: later(end) })).queued, 1, 'the next one began after it');
});

test('nor is it where its beginning has been forgotten', async () => {
  const recommender = await share({ maxSessionLength: 3 });
  const open = view(recommender, 3, now - 600);
  const sharing = await start(recommender);
  const middle = view(recommender, 2, open + 300);
  assert.equal((await sharing.flush({ now: middle })).queued, 0);
  const end = view(recommender, 3, middle + 300);
  assert.equal((await sharing.flush({ now: later(end) })).queued, 0);
});

test('one interaction is no session worth sending, and unknown items and other kinds stay behind', async () => {
  const recommender = await share();
  const sharing = await start(recommender);
  const [first, second] = fixture.itemIds;
  let at = now + 10;
  const observe = (itemId, kind = 'view') => recommender.observe({ itemId, kind, timestamp: (at += 5) });
  observe(first);
  assert.equal((await sharing.flush({ now: (at = later(at)) })).queued, 0);
  observe(first);
  observe('nobody-knows-this');
  observe(second, 'Wrote a letter');
  assert.equal((await sharing.flush({ now: (at = later(at)) })).queued, 0);
  observe(first);
  observe('nobody-knows-this');
  observe(second, 'cart');
  const { waiting: [{ body }] } = await sharing.preview({ now: later(at) });
  assert.deepEqual(JSON.parse(body).interactions, [{ item_id: first, kind: 'view' }, { item_id: second, kind: 'cart' }]);
});

test('a session waits for a random time up to a day, each for its own', async () => {
  const { fetch, received } = collector();
  const recommender = await share({ maxSessionLength: 1000 });
  const sharing = await start(recommender, { fetch, maxDelaySeconds: undefined });
  let end = now;
  for (let session = 0; session < 16; session += 1) end = view(recommender, 2, later(end));
  const { waiting } = await sharing.preview({ now: later(end) });
  const delays = waiting.map(({ notBefore }) => notBefore - later(end));
  assert.ok(delays.every((delay) => delay >= 0 && delay < DAY), `${delays}`);
  // All on one side of the middle: once in 32,000 runs.
  assert.ok(new Set(delays).size > 10 && delays.some((delay) => delay < DAY / 2) && delays.some((delay) => delay > DAY / 2), `${delays}`);
  await sharing.flush({ now: waiting[0].notBefore - 1 });
  assert.equal(received.length, 0);
  await sharing.flush({ now: waiting[0].notBefore });
  assert.deepEqual(received.map(({ body }) => body), [waiting[0].body]);
});

test('two tabs queue and send one session once', async () => {
  const { fetch, received, counted } = collector();
  const device = new fixture.sanderling.MemoryStorage();
  const left = await fixture.loadOwn({ storage: device, consent: 'share' });
  const tabs = [await start(left, { fetch })];
  const end = view(left);
  await left.settled();
  // The other tab opens later, and knows what the first one did.
  const right = await fixture.loadOwn({ storage: device, consent: 'share' });
  tabs.push(await start(right, { fetch }));
  const results = await Promise.all(tabs.map((tab) => tab.flush({ now: later(end) })));
  assert.deepEqual(results.map(({ queued }) => queued).toSorted(), [0, 1]);
  await Promise.all(tabs.map((tab) => tab.flush({ now: later(end) + DAY })));
  assert.deepEqual([counted.size, received.length], [1, 1]);
  left.free();
  right.free();
});

test('a tab leaves a session that went on in another tab to it', async () => {
  const device = new fixture.sanderling.MemoryStorage();
  const left = await fixture.loadOwn({ storage: device, consent: 'share' });
  const tab = await start(left);
  const middle = view(left, 2);
  await left.settled();
  await tab.flush({ now: middle });
  const right = await fixture.loadOwn({ storage: device, consent: 'share' });
  const other = await start(right);
  right.observe({ itemId: fixture.itemIds[2], kind: 'cart', timestamp: middle + 1200 });
  await other.flush({ now: middle + 1200 });
  assert.equal((await tab.flush({ now: later(middle) })).queued, 0, 'it has not seen the end');
  const { waiting: [{ body }] } = await other.preview({ now: later(middle + 1200) });
  assert.equal(JSON.parse(body).interactions.length, 3);
  assert.equal((await tab.flush({ now: later(middle + 1200) })).queued, 0);
  left.free();
  right.free();
});

test('a lost answer is repeated with the same bytes and counted as a duplicate', async () => {
  const { fetch, received, steps } = collector(({ session_id: id }, counted) => {
    counted.add(id);
    throw new TypeError('the connection broke');
  });
  const recommender = await share();
  const sharing = await start(recommender, { fetch });
  const end = view(recommender);
  const lost = await sharing.flush({ now: later(end) });
  assert.deepEqual([lost.accepted, lost.waiting], [0, 1]);
  const found = await sharing.flush({ now: lost.nextAttemptAt });
  assert.deepEqual([found.duplicate, found.waiting, steps.length], [1, 0, 0]);
  assert.equal(received[0].body, received[1].body);
  assert.deepEqual((await sharing.preview()).counters, { accepted: 0, duplicate: 1, dropped: {} });
});

test('429 and 503 are waited out, never sooner than the stated time, and the rest waits as long', async () => {
  const { fetch, received } = collector(() => problem(429, 'overloaded', { 'retry-after': '7200' }), () => problem(503, 'storage'));
  const recommender = await share();
  const sharing = await start(recommender, { fetch });
  const first = view(recommender);
  const second = view(recommender, 2, later(first));
  let result = await sharing.flush({ now: later(second) });
  assert.deepEqual([result.queued, result.waiting, received.length], [2, 2, 1]);
  assert.ok(result.nextAttemptAt >= later(second) + 7200, `${result.nextAttemptAt - later(second)}`);
  assert.equal((await sharing.flush({ now: result.nextAttemptAt - 1 })).waiting, 2);
  assert.equal(received.length, 1);
  result = await sharing.flush({ now: result.nextAttemptAt });
  assert.equal(result.waiting, 2);
  result = await sharing.flush({ now: result.nextAttemptAt });
  assert.deepEqual([result.accepted, result.waiting], [2, 0]);
});

test('24 requests a day are made at most; the rest waits for the next', async () => {
  const { fetch, received } = collector();
  const recommender = await share();
  const sharing = await start(recommender, { fetch, sessionIdleSeconds: 5 });
  const midnight = Math.ceil(now / DAY) * DAY + DAY;
  let end = midnight;
  const visits = async () => {
    for (let visit = 0; visit < 16; visit += 1) {
      for (const itemId of fixture.itemIds.slice(0, 2)) recommender.observe({ itemId, kind: 'view', timestamp: end + 10 });
      end += 10;
    }
    return sharing.flush({ now: end + 10 });
  };
  assert.equal((await visits()).accepted, 16);
  await sharing.erase();
  const { queued, accepted, waiting, nextAttemptAt } = await visits();
  assert.deepEqual([queued, accepted, waiting, received.length], [16, 8, 8, 24]);
  assert.ok(nextAttemptAt >= midnight + DAY + 60 && nextAttemptAt <= midnight + DAY + 7200, `${nextAttemptAt - midnight}`);
  assert.equal((await sharing.flush({ now: nextAttemptAt })).accepted, 8);
});

test('only a receipt that names the session, or the collector\'s own refusal, ends it', async () => {
  const html = (status) => new Response('<h1>Welcome</h1>', { status, headers: { 'content-type': 'text/html' } });
  const others = [
    () => html(200), () => html(404), () => json(201, { session_id: '0'.repeat(32), status: 'accepted' }), () => problem(404, 'not_found'),
    ({ session_id: id }) => json(201, { report_id: id, status: 'accepted' }), () => problem(500, 'report_invalid'), () => json(400, { code: 'report_invalid' }),
  ];
  const { fetch, steps } = collector(...others);
  const recommender = await share();
  const sharing = await start(recommender, { fetch });
  const end = view(recommender);
  let at = later(end);
  for (const _ of others) {
    const { waiting, dropped, nextAttemptAt } = await sharing.flush({ now: at });
    assert.deepEqual([waiting, dropped], [1, []]);
    at = nextAttemptAt;
  }
  steps.push(() => problem(400, 'unknown_bundle'));
  const refused = await sharing.flush({ now: at });
  assert.deepEqual([refused.dropped, refused.waiting], [['unknown_bundle'], 0]);
  assert.deepEqual((await sharing.preview()).counters.dropped, { unknown_bundle: 1 });
});

test('what waits outlives the page, also one that ends while it sends', async () => {
  let arrived;
  const sent = new Promise((resolve) => (arrived = resolve));
  const { fetch, counted, received } = collector(({ session_id: id }, known) => {
    known.add(id);
    arrived();
    return new Promise(() => {});
  });
  const first = await share();
  const closed = await start(first, { fetch });
  const end = view(first);
  void closed.flush({ now: later(end) });
  await sent;
  closed.stop();
  const second = await share();
  const sharing = await start(second, { fetch });
  assert.equal((await sharing.flush({ now: later(end) })).waiting, 1, 'it may still be on its way');
  assert.equal((await sharing.flush({ now: later(end) + 61 })).duplicate, 1);
  assert.deepEqual([counted.size, received.length], [1, 2]);
});

test('at most 16 sessions wait; the oldest give way and are counted', async () => {
  const recommender = await share();
  const sharing = await start(recommender, { maxDelaySeconds: DAY });
  let end = now;
  for (let session = 0; session < 18; session += 1) end = view(recommender, 2, later(end));
  const { waiting, counters } = await sharing.preview({ now: later(end) });
  assert.deepEqual([waiting.length, counters.dropped], [16, { overloaded: 2 }]);
});

test('where nothing durable works, nothing is shared, and the preview says why', async () => {
  const fail = async () => {
    throw new Error('the disk is gone');
  };
  for (const lost of [undefined, { description: 'broken', get: fail, update: fail, entries: fail, clear: fail }]) {
    const { fetch, received } = collector();
    const recommender = await share();
    const sharing = await start(recommender, { fetch, storage: lost });
    const end = view(recommender);
    const { notShared, waiting } = await sharing.preview({ now: later(end) });
    assert.deepEqual([notShared, waiting], ['no_storage', []]);
    assert.equal((await sharing.flush({ now: later(end) })).notShared, 'no_storage');
    assert.equal(received.length, 0);
  }
});

test('what cannot be written is neither queued nor sent, and is shared once when it can', async () => {
  const { storage: full } = watched();
  let isFull = false;
  const { update } = full;
  full.update = (key, change) => update(key, (current) => {
    const next = change(current);
    if (isFull) throw new Error('the disk is full');
    return next;
  });
  const { fetch, received, counted } = collector();
  const recommender = await share();
  const sharing = await start(recommender, { fetch, storage: full });
  const end = view(recommender);
  isFull = true;
  const refused = await sharing.flush({ now: later(end) });
  assert.deepEqual([refused.queued, refused.waiting], [0, 0]);
  isFull = false;
  assert.equal((await sharing.preview({ now: later(end) })).waiting.length, 1);
  isFull = true;
  assert.equal((await sharing.flush({ now: later(end) })).waiting, 1);
  assert.equal(received.length, 0);
  isFull = false;
  assert.equal((await sharing.flush({ now: later(end) })).accepted, 1);
  assert.equal(counted.size, 1);
});

test('it works by itself: a session that ended in an earlier visit is sent in the next', async () => {
  const { fetch, received } = collector();
  const recommender = await share();
  const first = await start(recommender);
  first.stop();
  view(recommender, 3, now + 10);
  // As if the consent and all after it had been long ago.
  await storage.update('sessions', (sharing) => ({ ...sharing, barrier: now - 3 * IDLE, newest: now - 3 * IDLE }));
  const earlier = await share();
  view(earlier, 3, now - 2 * IDLE + 100);
  earlier.observe({ itemId: fixture.itemIds[0], kind: 'view', timestamp: now });
  const sharing = await start(earlier, { fetch, autoSend: true });
  await sharing.settled();
  assert.deepEqual(received.map(({ session }) => session.interactions.length), [3]);
});

test('it works by itself: a session that ends while the page is open is sent, and not before', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout', 'Date'], now: now * 1000 });
  const { fetch, received } = collector();
  const recommender = await share();
  await start(recommender, { fetch, autoSend: true });
  for (const itemId of fixture.itemIds.slice(0, 3)) {
    await live(t.mock.timers, 300);
    recommender.observe({ itemId, kind: 'view' });
  }
  await live(t.mock.timers, IDLE - 30);
  assert.equal(received.length, 0);
  await live(t.mock.timers, 90);
  assert.deepEqual(received.map(({ session }) => session.interactions.length), [3]);
});

test('wrong arguments have a stable code', async () => {
  const recommender = await share();
  const wrong = [
    [{}, {}], [null, {}], [recommender, null], [recommender, { collectorUrl: undefined }], [recommender, { collectorUrl: 'http://' }],
    [recommender, { consent: 'share' }], [recommender, { consent: true }], [recommender, { maxDelaySeconds: -1 }], [recommender, { maxDelaySeconds: Infinity }],
    [recommender, { maxDelaySeconds: '1' }], [recommender, { sessionIdleSeconds: 0 }], [recommender, { sessionIdleSeconds: Infinity }], [recommender, { sessionIdleSeconds: 'long' }],
  ];
  for (const [given, options] of wrong) {
    const started = SharedSessions.start(given, options && { collectorUrl: COLLECTOR, storage, ...options });
    await assert.rejects(started, { name: 'RecommenderError', code: 'invalid_argument' }, JSON.stringify(options));
  }
  assert.deepEqual(await storage.entries(), {});
  const sharing = await start(recommender);
  await assert.rejects(sharing.setConsent('yes'), { code: 'invalid_argument' });
  await assert.rejects(sharing.flush({ now: 'now' }), { code: 'invalid_argument' });
  await assert.rejects(sharing.flush('now'), { code: 'invalid_argument' });
  sharing.stop();
  await assert.rejects(sharing.flush(), { code: 'invalid_argument' });
  await assert.rejects(sharing.preview(), { code: 'invalid_argument' });
});
