import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import { findBrowser } from '../../www/tools/browser.mjs';
import { openPage } from './lib/chromium.mjs';
import { browse, openFixture } from './lib/fixture.mjs';
import { importFrom } from './lib/node.mjs';

const noBrowser = findBrowser() === undefined && 'no Chromium is installed';
let fixture;

before(async () => {
  fixture = await openFixture();
});

after(() => fixture.engine.free());

const STORED = [{ item_id: 'from an earlier visit', kind: 'view', timestamp: 100 }];

/** A storage that answers nothing before `answer` is called, as databases of some browsers do; `isLate` says from when on. */
function lateStorage(records = {}) {
  const storage = new fixture.sanderling.MemoryStorage(records);
  let answer;
  const gate = new Promise((done) => {
    answer = done;
  });
  const late = { description: 'late', isLate: true };
  for (const method of ['get', 'update', 'entries', 'clear']) {
    late[method] = async (...args) => {
      if (late.isLate) await gate;
      return storage[method](...args);
    };
  }
  return { late, answer, storage };
}

/** A collector that takes everything, and what it got. */
function collector() {
  const sent = [];
  const fetch = async (_, { body }) => {
    const report = JSON.parse(body);
    sent.push(report);
    return Response.json({ status: 'accepted', report_id: report.report_id }, { status: 202 });
  };
  return { sent, sharing: { consent: 'share', collectorUrl: 'http://127.0.0.1:9/', fetch } };
}

/** What is stored of a window that ended yesterday, with one list. */
async function yesterday() {
  const recommender = await fixture.load();
  const now = Math.floor(Date.now() / 1000) - fixture.windowSeconds;
  for (const itemId of fixture.itemIds.slice(0, 3)) recommender.observe({ itemId, kind: 'view', timestamp: now });
  recommender.recommend({ now });
  const { records } = await recommender.export();
  assert.equal(records[`telemetry/${recommender.bundle.hash}`].state.current.num_lists, 1);
  return records;
}

/** Time passes by hand, so that nobody waits for the package's patience. */
function passTime(t) {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  return async (work) => {
    const done = work.then((value) => ({ value }), (error) => ({ error }));
    for (;;) {
      const outcome = await Promise.race([done, new Promise((turn) => setImmediate(turn))]);
      if (outcome !== undefined) {
        if (outcome.error !== undefined) throw outcome.error;
        return outcome.value;
      }
      t.mock.timers.tick(100);
    }
  };
}

test('a storage that does not answer keeps no page waiting, and is used as soon as it does', async (t) => {
  const within = passTime(t);
  const { late, answer, storage } = lateStorage({ session: STORED });
  const recommender = await within(fixture.load({ storage: late }));
  assert.equal(browse(recommender, fixture.itemIds).recommendations.length, 5);
  assert.equal(recommender.session.length, 3);
  await assert.rejects(within(recommender.settled()), { code: 'io' });
  await assert.rejects(within(recommender.export()), { code: 'io' }, 'what cannot be read is not nothing');
  let numChanges = 0;
  recommender.onChange(() => (numChanges += 1));
  answer();
  await within(recommender.settled());
  const expected = ['from an earlier visit', ...fixture.itemIds.slice(0, 3)];
  assert.deepEqual(recommender.session.map(({ itemId }) => itemId), expected);
  assert.deepEqual((await storage.get('session')).map(({ item_id: itemId }) => itemId), expected);
  assert.equal((await storage.get(`telemetry/${recommender.bundle.hash}`)).state.current.num_lists, 1);
  assert.ok(numChanges > 0, 'a page can ask for a list of the whole session');
});

test('nothing is reported while it is not known what was', async (t) => {
  const within = passTime(t);
  const { sent, sharing } = collector();
  const { late, answer } = lateStorage();
  const recommender = await within(fixture.load({ storage: late, ...sharing }));
  browse(recommender, fixture.itemIds);
  assert.equal((await within(recommender.telemetry.flush())).notReportable, 'no_storage');
  assert.equal(sent.length, 0);
  answer();
  await within(recommender.settled());
  assert.equal((await within(recommender.telemetry.flush())).closed, true);
  assert.equal(sent.length, 1);
});

test('what cannot be erased is told, and is erased when storage answers', async (t) => {
  const within = passTime(t);
  const { late, answer, storage } = lateStorage({ session: STORED });
  const recommender = await within(fixture.load({ storage: late }));
  recommender.observe({ itemId: fixture.itemIds[0], kind: 'view' });
  await assert.rejects(within(recommender.erase()), { code: 'io' });
  assert.deepEqual(recommender.session, []);
  recommender.observe({ itemId: fixture.itemIds[1], kind: 'view' });
  answer();
  await within(recommender.settled());
  assert.deepEqual(recommender.session.map(({ itemId }) => itemId), [fixture.itemIds[1]]);
  assert.equal((await storage.get('session')).length, 1);
});

test('a consent is taken back when storage answers, and not said to be before', async (t) => {
  const within = passTime(t);
  const { late, answer, storage } = lateStorage({ session: STORED });
  const recommender = await within(fixture.load({ storage: late }));
  for (const _ of ['first', 'again']) await assert.rejects(within(recommender.setConsent('none')), { code: 'io' });
  await assert.rejects(within(recommender.setConsent('device')), { code: 'io' }, 'what was to go goes first');
  assert.equal((await storage.entries()).session.length, 1);
  answer();
  await within(recommender.setConsent('none'));
  assert.deepEqual(await storage.entries(), {});
  recommender.observe({ itemId: fixture.itemIds[0], kind: 'view' });
  await within(recommender.settled());
  assert.deepEqual(await storage.entries(), {});
});

for (const [when, seconds] of [['soon', 0], ['when it is given up', 10]]) {
  test(`what is learned and counted before storage answers ${when} adds to what was before`, async (t) => {
    const within = passTime(t);
    const choose = (recommender) => {
      browse(recommender, fixture.itemIds);
      recommender.recordOutcome({ position: 2 });
    };
    const earlier = await within(fixture.load({ personalise: true }));
    choose(earlier);
    await within(earlier.settled());
    const { records } = await earlier.export();
    const { late, answer, storage } = lateStorage(records);
    const recommender = await within(fixture.load({ storage: late, personalise: true }));
    await within(new Promise((done) => setTimeout(done, 1000 * seconds)));
    choose(recommender);
    answer();
    await within(recommender.settled());
    assert.equal((await storage.get('correction')).num_updates, 2);
    assert.equal((await storage.get(`telemetry/${recommender.bundle.hash}`)).state.current.num_lists, 2);
    assert.equal((await storage.get('session')).length, 6);
  });
}

test('a list that is made before storage answers counts beside those of an earlier visit', async (t) => {
  const within = passTime(t);
  const earlier = await within(fixture.load());
  browse(earlier, fixture.itemIds);
  const { records } = await within(earlier.export());
  const { late, answer, storage } = lateStorage(records);
  const recommender = await within(fixture.load({ storage: late }));
  browse(recommender, fixture.itemIds);
  answer();
  for (let turn = 0; turn < 20; turn += 1) await new Promise((done) => setImmediate(done));
  await within(recommender.settled());
  assert.equal((await storage.get(`telemetry/${recommender.bundle.hash}`)).state.current.num_lists, 2);
});

for (const [when, seconds] of [['soon', 0], ['after the first write', 3], ['when it is given up', 10]]) {
  test(`a window of an earlier visit is reported where storage answers ${when}`, async (t) => {
    const within = passTime(t);
    const { sent, sharing } = collector();
    const { late, answer, storage } = lateStorage(await yesterday());
    const recommender = await within(fixture.load({ storage: late, ...sharing, autoSend: true }));
    browse(recommender, fixture.itemIds);
    await within(new Promise((done) => setTimeout(done, 1000 * seconds)));
    answer();
    await within(new Promise((done) => setTimeout(done, 1000)));
    await within(recommender.settled());
    assert.equal(sent.length, 1, 'without being asked');
    const { windowStart, state } = await storage.get(`telemetry/${recommender.bundle.hash}`);
    assert.equal(sent[0].window_start, windowStart - fixture.windowSeconds);
    assert.equal(state.current.num_lists, 1, 'and the list of this one is counted');
    recommender.free();
  });
}

test('a window that ends while storage does not answer is reported when it does', async (t) => {
  const within = passTime(t);
  const { sent, sharing } = collector();
  const { late, answer } = lateStorage();
  late.isLate = false;
  const recommender = await within(fixture.load({ storage: late, ...sharing }));
  const now = Math.floor(Date.now() / 1000);
  late.isLate = true;
  for (const itemId of fixture.itemIds.slice(0, 3)) recommender.observe({ itemId, kind: 'view', timestamp: now - fixture.windowSeconds });
  recommender.recommend({ now: now - fixture.windowSeconds });
  await assert.rejects(within(recommender.settled()), { code: 'io' });
  recommender.recommend({ now });
  answer();
  await within(recommender.settled());
  await within(recommender.telemetry.flush());
  assert.deepEqual(sent.map(({ window_start: start }) => start % fixture.windowSeconds), [0, 0]);
  assert.equal(sent[1].window_start - sent[0].window_start, fixture.windowSeconds);
});

test('what is erased while it is read does not come back', async (t) => {
  const within = passTime(t);
  const earlier = await within(fixture.load());
  browse(earlier, fixture.itemIds);
  const { records } = await within(earlier.export());
  const storage = new fixture.sanderling.MemoryStorage(records);
  const get = storage.get.bind(storage);
  let answer;
  const gate = new Promise((done) => {
    answer = done;
  });
  storage.get = async (key) => {
    const found = await get(key);
    if (key.startsWith('telemetry/')) await gate;
    return found;
  };
  const recommender = await within(fixture.load({ storage }));
  const erased = recommender.erase();
  answer();
  await within(erased);
  await within(recommender.settled());
  assert.equal((await within(recommender.telemetry.preview())).state.current.num_lists, 0);
  assert.deepEqual(recommender.session, []);
});

test('reports that wait are not said to be discarded before they are', async (t) => {
  const within = passTime(t);
  const { sharing } = collector();
  const { late, answer, storage } = lateStorage();
  late.isLate = false;
  const away = async () => new Response('', { status: 503 });
  const recommender = await within(fixture.load({ storage: late, ...sharing, fetch: away }));
  browse(recommender, fixture.itemIds);
  await within(recommender.telemetry.flush());
  late.isLate = true;
  for (const _ of ['first', 'again']) await assert.rejects(within(recommender.setConsent('device')), { code: 'io' });
  assert.equal((await storage.get('reports')).outbox.length, 1);
  await assert.rejects(within(recommender.setConsent('share')), { code: 'io' }, 'what was to go goes first');
  answer();
  await within(recommender.setConsent('share'));
  assert.equal((await storage.get('reports')).outbox?.length ?? 0, 0);
});

test('what a recommender that was freed has not taken up is there for the next one', async (t) => {
  const within = passTime(t);
  const { sent, sharing } = collector();
  const { late, answer, storage } = lateStorage(await yesterday());
  const freed = await within(fixture.loadOwn({ storage: late, ...sharing }));
  const { engine } = freed;
  browse(freed, fixture.itemIds);
  freed.free();
  while (engine.state === 'running') await within(new Promise((done) => setTimeout(done, 1000)));
  answer();
  await within(new Promise((done) => setTimeout(done, 1000)));
  const next = await within(fixture.load({ storage, ...sharing }));
  await within(next.telemetry.flush());
  assert.equal(sent.length, 1);
});

test('counts that were erased while they were written do not come back', async (t) => {
  const within = passTime(t);
  const { late, answer, storage } = lateStorage();
  late.isLate = false;
  const recommender = await within(fixture.load({ storage: late }));
  browse(recommender, fixture.itemIds);
  await within(recommender.settled());
  // Another tab has made some.
  await storage.update(`telemetry/${recommender.bundle.hash}`, (stored) => {
    stored.state.current.num_lists += 10;
    return stored;
  });
  late.isLate = true;
  browse(recommender, fixture.itemIds);
  const written = recommender.settled();
  const erased = recommender.erase();
  browse(recommender, fixture.itemIds);
  answer();
  await within(Promise.all([written, erased]));
  await within(recommender.settled());
  assert.equal((await within(recommender.telemetry.preview())).state.current.num_lists, 1);
  assert.equal((await storage.get(`telemetry/${recommender.bundle.hash}`)).state.current.num_lists, 1);
});

test('a storage that answered while the bundle was on its way is waited for', async (t) => {
  const within = passTime(t);
  const { late, answer } = lateStorage({ session: STORED });
  const after = (seconds) => new Promise((done) => setTimeout(done, 1000 * seconds));
  const fetch = async (url) => {
    await after(3);
    return new Response(fixture.files[new URL(url).pathname.split('/').at(-1)] ?? null);
  };
  void after(1.5).then(answer);
  const recommender = await within(fixture.sanderling.Recommender.load({ baseUrl: 'https://shop.example/bundle/', fetch, storage: late }));
  assert.equal(recommender.session.length, 1);
  recommender.free();
});

test('recommenders of one storage hear that another page has removed it, also before they are there, and not when they are freed', async () => {
  const listeners = new Set();
  const storage = Object.assign(new fixture.sanderling.MemoryStorage(), {
    isGone: false, onGone: (listener) => (listeners.add(listener), () => listeners.delete(listener)),
  });
  const remove = () => {
    storage.isGone = true;
    for (const listener of [...listeners]) listener();
  };
  const [left, right, freed] = await Promise.all([1, 2, 3].map(() => fixture.loadOwn({ storage })));
  let numChanges = 0;
  left.onChange(() => (numChanges += 1));
  freed.free();
  browse(left, fixture.itemIds);
  await left.settled();
  remove();
  assert.deepEqual([left.consent, right.consent], ['none', 'none']);
  assert.ok(numChanges > 3);
  await left.settled();
  assert.equal((await left.export()).storage, 'memory');
  const late = await fixture.loadOwn({ storage });
  assert.equal(late.consent, 'none', 'it was gone before its engine was there');
  for (const recommender of [left, right, late]) recommender.free();
  assert.equal(listeners.size, 0);
});

test('sharing that is allowed again while its removal is late begins behind it', async (t) => {
  const within = passTime(t);
  const { SharedSessions } = await importFrom(fixture.project, 'sessions');
  const { sharing } = collector();
  const recommender = await within(fixture.load(sharing));
  const { late, answer, storage } = lateStorage();
  late.isLate = false;
  const { collectorUrl, fetch } = sharing;
  const shared = await within(SharedSessions.start(recommender, { collectorUrl, fetch, consent: 'sessions', storage: late, autoSend: false }));
  assert.equal(Object.keys(await storage.entries()).length, 1);
  late.isLate = true;
  await assert.rejects(within(shared.export()), { code: 'io' }, 'what cannot be read is not nothing');
  await assert.rejects(within(shared.setConsent('none')), { code: 'io' });
  await assert.rejects(within(shared.setConsent('sessions')), { code: 'io' }, 'what was to go goes first');
  answer();
  await within(shared.setConsent('sessions'));
  await within(shared.flush());
  assert.equal(shared.consent, 'sessions');
  assert.equal(Object.keys(await storage.entries()).length, 1);
  shared.stop();
});

test('those who wait at one time do not wait for each other', async (t) => {
  const recommender = await fixture.loadOwn();
  browse(recommender, fixture.itemIds);
  await Promise.all([recommender.settled(), recommender.export(), recommender.settled(), recommender.export()]);
  const exported = recommender.export();
  recommender.free();
  assert.equal((await exported).session.length, 3);
});

test('a page that is shown again does not lose what is observed at that moment', async (t) => {
  globalThis.document = new EventTarget();
  t.after(() => delete globalThis.document);
  const recommender = await fixture.load();
  recommender.observe({ itemId: fixture.itemIds[0], kind: 'view' });
  await recommender.settled();
  const lengths = [];
  recommender.onChange(() => lengths.push(recommender.session.length));
  globalThis.document.dispatchEvent(new Event('visibilitychange'));
  recommender.observe({ itemId: fixture.itemIds[1], kind: 'view' });
  await recommender.settled();
  assert.deepEqual(new Set(lengths), new Set([2]));
});

test('what was counted is written although the recommender was freed before storage answered', async (t) => {
  const within = passTime(t);
  const { late, answer, storage } = lateStorage();
  late.isLate = false;
  const recommender = await within(fixture.loadOwn({ storage: late }));
  const { hash } = recommender.bundle;
  const { engine } = recommender;
  late.isLate = true;
  browse(recommender, fixture.itemIds);
  recommender.free();
  while (engine.state === 'running') await within(new Promise((done) => setTimeout(done, 1000)));
  answer();
  await within(new Promise((done) => setTimeout(done, 1000)));
  assert.equal((await storage.get(`telemetry/${hash}`)).state.current.num_lists, 1);
  assert.equal((await storage.get('session')).length, 3);
});

test('a page waits for storage once, and one that fails late is as one that fails at once', async (t) => {
  const within = passTime(t);
  const { sharing } = collector();
  let fail;
  const gate = new Promise((_, reject) => {
    fail = () => reject(new Error('the disk is gone'));
  });
  const storage = Object.fromEntries(['get', 'update', 'entries', 'clear'].map((method) => [method, () => gate]));
  let millis = 0;
  const loading = fixture.load({ ...sharing, storage }).finally(() => (millis = -millis));
  while (millis >= 0) {
    await within(new Promise((done) => setTimeout(done, 100)));
    millis += Math.sign(millis + 1) * 100;
  }
  assert.ok(millis > -1500, `${-millis} ms`);
  const recommender = await loading;
  fail();
  await within(recommender.settled());
  browse(recommender, fixture.itemIds);
  assert.equal((await within(recommender.telemetry.flush())).notReportable, 'no_storage');
  assert.equal((await recommender.export()).storage, 'memory');
});

test('a recommender is freed although its storage does not answer, and a consent given meanwhile is no wait', async (t) => {
  const within = passTime(t);
  const { late } = lateStorage();
  const recommender = await within(fixture.loadOwn({ storage: late, consent: 'none' }));
  await within(recommender.setConsent('device'));
  assert.equal(browse(recommender, fixture.itemIds).recommendations.length, 5);
  const { engine } = recommender;
  recommender.free();
  const freed = async () => {
    while (engine.state === 'running') await new Promise((done) => setTimeout(done, 1000));
  };
  await within(freed());
});

test('a storage that stops to answer later leaves a page alone', async (t) => {
  const within = passTime(t);
  const { late, answer, storage } = lateStorage();
  late.isLate = false;
  const recommender = await within(fixture.load({ storage: late }));
  late.isLate = true;
  assert.equal(browse(recommender, fixture.itemIds).recommendations.length, 5);
  await assert.rejects(within(recommender.settled()), { code: 'io' });
  answer();
  await within(recommender.settled());
  assert.equal((await storage.get('session')).length, 3);
});

test('a database that another script holds keeps no page waiting', { skip: noBrowser }, async () => {
  const { page, close } = await openPage(fixture);
  try {
    const seen = await page.evaluate(async (itemId) => {
      const { Recommender } = await import(new URL('sanderling/dist/browser.js', location.href));
      const done = (request) => new Promise((resolve, reject) => Object.assign(request, { onsuccess: () => resolve(request.result), onerror: reject }));
      // It does not let go, so that a removal waits for it, and everybody else for the removal.
      const held = await done(indexedDB.open('sanderling', 1));
      const removed = done(indexedDB.deleteDatabase('sanderling'));
      const start = performance.now();
      const recommender = await Recommender.load({ baseUrl: './bundle/', consent: 'device' });
      const millis = performance.now() - start;
      recommender.observe({ itemId, kind: 'view' });
      const { length } = recommender.recommend({ limit: 3 }).recommendations;
      const code = await recommender.settled().catch((error) => error.code);
      held.close();
      await removed;
      await recommender.settled();
      const { records } = await recommender.export();
      return { isInTime: millis < 4000, length, code, stored: records.session.map(({ item_id: id }) => id) };
    }, fixture.itemIds[0]);
    assert.deepEqual(seen, { isInTime: true, length: 3, code: 'io', stored: [fixture.itemIds[0]] });
  } finally {
    await close();
  }
});

test('recommenders of one database object hear of its removal, and begin anew where they may', { skip: noBrowser }, async () => {
  const { page, close } = await openPage(fixture);
  try {
    const seen = await page.evaluate(async (itemId) => {
      const { IndexedDbStorage, Recommender } = await import(new URL('sanderling/dist/browser.js', location.href));
      const done = (request) => new Promise((resolve, reject) => Object.assign(request, { onsuccess: () => resolve(request.result), onerror: reject }));
      const storage = new IndexedDbStorage('own');
      const load = () => Recommender.load({ baseUrl: './bundle/', consent: 'device', storage });
      const stored = async () => (await storage.entries()).session?.map(({ item_id: id }) => id);
      const observe = async (recommender) => {
        recommender.observe({ itemId, kind: 'view' });
        await recommender.settled();
      };
      const [left, right] = [await load(), await load()];
      left.free();
      await new Promise((turn) => setTimeout(turn, 100));
      await observe(right);
      const before = await stored();
      // As another tab would.
      await done(indexedDB.deleteDatabase('own'));
      const removed = right.consent;
      await right.setConsent('device');
      await observe(right);
      const again = [right.consent, (await stored()).length];
      const third = await load();
      await third.setConsent('none');
      const taken = [right.consent, (await indexedDB.databases()).length];
      return { before, removed, again, taken };
    }, fixture.itemIds[0]);
    assert.deepEqual(seen, { before: [fixture.itemIds[0]], removed: 'none', again: ['device', 2], taken: ['none', 0] });
  } finally {
    await close();
  }
});
