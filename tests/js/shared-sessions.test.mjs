// Sharing of sessions: what leaves a device, when, how often, and above all when nothing does.
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, afterEach, before, beforeEach, test } from 'node:test';

import { openFixture } from './lib/fixture.mjs';
import { importFrom } from './lib/node.mjs';
import { REPO } from './lib/paths.mjs';

const IDLE = 1800;
const DAY = 86_400;
const COLLECTOR = 'https://collector.example/';

let fixture;
let SharedSessions;
let encodeSharedSession;
let storage;
let start;
/** When each test begins: every consent is given at about that time. */
let now;

before(async () => {
  fixture = await openFixture();
  ({ SharedSessions, encodeSharedSession } = await importFrom(fixture.project, 'sessions'));
});

beforeEach(() => {
  storage = new fixture.sanderling.MemoryStorage();
  now = Math.floor(Date.now() / 1000);
  const started = [];
  start = async (recommender, options = {}) => {
    const sharing = await SharedSessions.start(recommender, {
      collectorUrl: COLLECTOR, consent: 'sessions', storage, autoSend: false, maxDelaySeconds: 0, fetch: collector().fetch, ...options,
    });
    started.push(sharing);
    return sharing;
  };
  start.stop = () => started.forEach((sharing) => sharing.stop());
});

afterEach(() => {
  start.stop();
  delete globalThis.navigator;
});

after(() => fixture.engine.free());

const share = (options = {}) => fixture.load({ consent: 'share', ...options });
const json = (status, body, headers = {}) => new Response(JSON.stringify(body), { status, headers: { 'content-type': 'application/json', ...headers } });
const problem = (status, code, headers = {}) => json(status, { code }, { 'content-type': 'application/problem+json', ...headers });

/** A fetch that answers request after request with the given steps, then as a collector does. */
function collector(...steps) {
  const received = [];
  const counted = new Set();
  const fetch = async (url, init) => {
    const session = JSON.parse(init.body);
    received.push({ url, init, body: init.body, session });
    const step = steps.shift();
    if (step !== undefined) return step(session, counted);
    const status = counted.has(session.session_id) ? 'duplicate' : 'accepted';
    counted.add(session.session_id);
    return json(status === 'accepted' ? 201 : 200, { session_id: session.session_id, status });
  };
  return { fetch, received, counted, steps };
}

/** Views of the first `count` items, a minute apart. */
function view(recommender, count = 3, from = now + 10, kind = 'view') {
  fixture.itemIds.slice(0, count).forEach((itemId, at) => recommender.observe({ itemId, kind, timestamp: from + 60 * at }));
  return from + 60 * (count - 1);
}

/** A moment at which a session that ended at `end` goes on no more. */
const later = (end) => end + IDLE + 1;

function watched() {
  const inner = new fixture.sanderling.MemoryStorage();
  const writes = [];
  return { writes, storage: Object.assign(Object.create(inner), {
    description: 'watched',
    get: (key) => inner.get(key),
    entries: () => inner.entries(),
    clear: () => inner.clear(),
    update: (key, change) => inner.update(key, (current) => {
      const next = change(current);
      if (current !== undefined || next !== undefined) writes.push(key);
      return next;
    }),
  }) };
}

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

/** Lives on for some seconds, half a minute at a time, with what timers begin. */
async function live(timers, seconds) {
  for (let passed = 0; passed < seconds; passed += 30) {
    timers.tick(30_000);
    for (let turn = 0; turn < 20; turn += 1) await new Promise(setImmediate);
  }
}

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
