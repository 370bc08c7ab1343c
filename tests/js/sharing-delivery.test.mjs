// Sharing of sessions in a real browser, to the real collector: whatever ends a page and whatever the network does, each session is counted once.
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, beforeEach, test } from 'node:test';

import { collect } from '../../www/demo/cli.mjs';
import { findBrowser } from '../../www/tools/browser.mjs';
import { openPage } from './lib/chromium.mjs';
import { refuse, startCollector } from './lib/collector.mjs';
import { openFixture } from './lib/fixture.mjs';
import { evaluateUntilStopped, withPage as withPageOf } from './lib/stopping.mjs';

const noBrowser = findBrowser() === undefined && 'no Chromium is installed';
const IDLE = 1800;
const DAY = 86_400;
/** When sessions begin: after every consent that is given here, and no further ahead than a collector's clock may be behind. */
const BEGIN = Math.floor(Date.now() / 1000) + 240;
/** When they have ended. */
const LATER = BEGIN + 20 + IDLE + 1;

let fixture;
let scratch;
let collector;
/** What the network does: notes every request, and hands it on to the collector unless a step says otherwise. */
let network;
/** What the collector answered, by session: 201 for each session that it counted. */
let answers;
let opened;

before(async () => {
  if (noBrowser) return;
  fixture = await openFixture();
  scratch = await mkdtemp(join(tmpdir(), 'sanderling-sharing-'));
  collector = await collect({ store: join(scratch, 'collector.db'), bundle: fixture.bundle, origins: ['*'], acceptSessions: true });
  network = await startCollector();
  opened = await openPage({ project: fixture.project, bundle: fixture.bundle });
});

beforeEach(() => disturb([]));

after(async () => {
  await opened?.close();
  await network?.close();
  await collector?.stop();
  fixture?.engine.free();
  if (scratch !== undefined) await rm(scratch, { recursive: true, force: true });
});

/** Lets the next requests meet these steps; all others reach the collector. */
function disturb(steps) {
  answers = [];
  if (network === undefined) return;
  network.received.length = 0;
  network.steps.length = 0;
  network.steps.push(...steps, ...Array.from({ length: 500 }, () => handOn));
}

const bodyOf = (id) => network.received.find(({ report }) => report.session_id === id).body;
const counted = () => answers.filter(({ status }) => status === 201).length;

async function handOn(response, { session_id: id }) {
  const answer = await fetch(`${collector.url}/v1/sessions`, { method: 'POST', body: bodyOf(id) });
  answers.push({ id, status: answer.status });
  response.writeHead(answer.status, { 'content-type': answer.headers.get('content-type'), 'access-control-allow-origin': '*' });
  response.end(await answer.text());
}

/** The collector has it, and nobody hears of it. */
async function loseAnswer(response, session) {
  await handOn({ writeHead() {}, end() {} }, session);
  response.destroy();
}

/**
 * A visit, with three interactions where `browse`, and a flush at `now`. Where the page comes to its `dieAt`-th step (a look into the database,
 * a write, a random number, a request), it stops for good in the middle of it, as if its process were gone.
 */
async function visit(page, { storageName, now, browse = false, consent = 'sessions', dieAt = Infinity, url = network.url }) {
  return evaluateUntilStopped(page, async ({ storageName, now, browse, consent, dieAt, url, items, begin }) => {
    const { Recommender } = await import(new URL('sanderling/dist/browser.js', location.href));
    const { SharedSessions } = await import(new URL('sanderling/dist/sessions.js', location.href));
    const recommender = await Recommender.load({ baseUrl: './bundle/', consent: 'share', storageName, autoSend: false, keepBundle: false });
    const sharing = await SharedSessions.start(recommender, {
      collectorUrl: url, consent, storageName: `${storageName}-sessions`, maxDelaySeconds: 0, autoSend: false,
    });
    // What happened before is a matter of the recommender and of the consent.
    const steps = standStillAt(dieAt);
    if (browse) items.forEach((itemId, at) => recommender.observe({ itemId, kind: 'view', timestamp: begin + 10 * at }));
    await recommender.settled();
    const { waiting, notShared } = await sharing.preview({ now });
    const result = await sharing.flush({ now });
    const databases = (await indexedDB.databases()).map(({ name }) => name);
    sharing.stop();
    recommender.free();
    return { steps: steps(), databases, previewed: waiting.map(({ body }) => body), notShared, waiting: result.waiting, accepted: result.accepted };
  }, { storageName, now, browse, consent, dieAt, url, items: fixture.itemIds.slice(0, 3), begin: BEGIN });
}

const withPage = (work) => withPageOf(opened, work);

test('a session is sent as it was previewed and counted; without consent nothing is there', { skip: noBrowser }, async () => {
  const without = await withPage((page) => visit(page, { storageName: 'none', now: LATER, browse: true, consent: 'none' }));
  assert.deepEqual([without.databases.includes('none-sessions'), without.notShared, network.received.length], [false, 'consent', 0]);
  const shared = await withPage((page) => visit(page, { storageName: 'shared', now: LATER, browse: true }));
  assert.ok(shared.databases.includes('shared-sessions'));
  assert.deepEqual(network.received.map(({ body, url, headers }) => [body, url, headers.cookie]), [[shared.previewed[0], '/v1/sessions', undefined]]);
  assert.deepEqual(answers.map(({ status }) => status), [201]);
  assert.equal(JSON.parse(shared.previewed[0]).interactions.length, 3);
  const direct = await withPage((page) => visit(page, { storageName: 'direct', now: LATER, browse: true, url: collector.url }));
  assert.equal(direct.accepted, 1, 'the collector answers pages of this origin');
  const taken = await withPage((page) => visit(page, { storageName: 'shared', now: LATER, consent: 'none' }));
  assert.ok(!taken.databases.includes('shared-sessions'));
});

test('a page that ends anywhere shares its session once', { skip: noBrowser }, async () => {
  const { steps } = await withPage((page) => visit(page, { storageName: 'whole', now: LATER, browse: true }));
  assert.ok(steps > 10 && counted() === 1, `${steps} steps`);
  const stride = process.env.SANDERLING_EVERY_STEP === undefined ? 5 : 1;
  const delivered = [];
  for (let dieAt = 1; dieAt <= steps; dieAt += stride) {
    disturb([]);
    const storageName = `killed-${dieAt}`;
    assert.equal(await withPage((page) => visit(page, { storageName, now: LATER, browse: true, dieAt })), 'frozen', `step ${dieAt}`);
    const { waiting } = await withPage((page) => visit(page, { storageName, now: LATER + 3 * DAY }));
    assert.equal(waiting, 0, `killed at step ${dieAt}`);
    assert.ok(counted() <= 1, `killed at step ${dieAt}: counted ${counted()} times`);
    if (counted() === 1) delivered.push(dieAt);
  }
  // Before the recommender has written what was observed there is nothing to share; from then on it is shared, wherever the page ends.
  const later = Math.floor((steps - delivered[0]) / stride) + 1;
  assert.ok(delivered.length === later && delivered[0] < steps / 2, `${delivered} of ${steps}`);
});

test('two tabs in a storm of failures share one session once', { skip: noBrowser }, async () => {
  const full = (response) => refuse(response, 429, 'overloaded', { 'retry-after': '1' });
  const down = (response) => refuse(response, 503, 'storage');
  disturb([full, loseAnswer, down, full, loseAnswer]);
  const both = (now, browse) => Promise.all([1, 2].map((tab) => withPage((page) => visit(page, { storageName: 'tabs', now, browse: browse && tab === 1 }))));
  await both(LATER, true);
  let waiting = 1;
  for (let days = 1; days <= 12 && waiting > 0; days += 1) waiting = Math.max(...(await both(LATER + days * DAY, false)).map((one) => one.waiting));
  assert.equal(waiting, 0);
  assert.deepEqual([counted(), new Set(network.received.map(({ report }) => report.session_id)).size], [1, 1]);
  assert.ok(answers.length > 1, 'a known one is a duplicate');
});

test('a page whose storage is refused shares nothing', { skip: noBrowser }, async () => {
  const result = await withPage(async (page) => {
    await page.evaluate(() => {
      IDBFactory.prototype.open = () => {
        throw new DOMException('refused', 'SecurityError');
      };
    });
    return visit(page, { storageName: 'refused', now: LATER, browse: true });
  });
  assert.deepEqual([result.notShared, result.previewed, network.received.length], ['no_storage', [], 0]);
});

test('Global Privacy Control shares nothing, and removes what waits', { skip: noBrowser }, async () => {
  disturb([(response) => refuse(response, 503, 'storage')]);
  assert.equal((await withPage((page) => visit(page, { storageName: 'gpc', now: LATER, browse: true }))).waiting, 1);
  const signalled = await withPage(async (page) => {
    await page.evaluate(() => Object.defineProperty(Navigator.prototype, 'globalPrivacyControl', { value: true }));
    return visit(page, { storageName: 'gpc', now: LATER + 3 * DAY });
  });
  assert.deepEqual([signalled.notShared, signalled.waiting, signalled.databases.includes('gpc-sessions')], ['privacy_signal', 0, false]);
  assert.equal(counted(), 0);
});
