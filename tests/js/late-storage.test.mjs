import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import { browse, openFixture } from './lib/fixture.mjs';

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
  const sent = [];
  const fetch = async (_, { body }) => {
    sent.push(body);
    return new Response('{"status":"accepted"}', { status: 202 });
  };
  const { late, answer } = lateStorage();
  const recommender = await within(fixture.load({ storage: late, consent: 'share', collectorUrl: 'http://127.0.0.1:9/', fetch }));
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
