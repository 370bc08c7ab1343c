import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, beforeEach, afterEach, test } from 'node:test';

import { accept, refuse, startCollector } from './lib/collector.mjs';
import { browse, openFixture } from './lib/fixture.mjs';
import { REPO } from './lib/paths.mjs';

const HOUR = 3600;

let fixture;
let collector;
let storage;
/** The start of today's window: earlier than every clock reading, so retries can be dated from it. */
let today;

before(async () => {
  fixture = await openFixture();
});

beforeEach(async () => {
  collector = await startCollector();
  storage = new fixture.sanderling.MemoryStorage();
  const clock = Math.floor(Date.now() / 1000);
  today = clock - (clock % fixture.windowSeconds);
});

afterEach(() => collector.close());
after(() => fixture.engine.free());

const share = (options = {}) => fixture.load({ storage, consent: 'share', collectorUrl: collector.url, ...options });

test('a report is what the preview showed, and nothing that identifies anybody', async () => {
  const recommender = await share();
  browse(recommender, fixture.itemIds);
  const preview = await recommender.telemetry.preview();
  const result = await recommender.telemetry.flush();
  assert.deepEqual({ ...result, nextAttemptAt: null }, {
    closed: true, notReportable: null, accepted: 1, duplicate: 0, dropped: [], waiting: 0, nextAttemptAt: null,
  });
  const [{ body, headers, url, method, report }] = collector.received;
  assert.equal(body, preview.body);
  assert.equal(Buffer.byteLength(body), recommender.bundle.telemetry.reportBytes);
  assert.equal(`${method} ${url}`, 'POST /v1/reports');
  assert.match(headers['content-type'], /^text\/plain/);
  assert.equal(headers.cookie, undefined);
  assert.deepEqual(Object.keys(report).sort(), [
    'bundle_sha256', 'epsilon', 'format_version', 'observations', 'padding', 'report_id', 'window_seconds', 'window_start',
  ]);
  assert.equal(report.window_start, today);
  assert.equal(report.observations.length, recommender.bundle.telemetry.fieldsPerReport);
  for (const itemId of fixture.itemIds.slice(0, 3)) assert.ok(!body.includes(`"${itemId}"`));
});

test('a window is reported once, by whatever recommender of a device', async () => {
  const recommender = await share();
  browse(recommender, fixture.itemIds);
  await recommender.telemetry.flush();
  browse(recommender, fixture.itemIds);
  assert.equal((await recommender.telemetry.flush()).notReportable, 'already_reported');
  const reloaded = await share();
  browse(reloaded, fixture.itemIds);
  assert.equal((await reloaded.telemetry.preview()).report, null);
  assert.equal((await reloaded.telemetry.flush()).notReportable, 'already_reported');
  assert.equal(collector.received.length, 1);
});

test('a window is reported once, whatever becomes of consent in between', async () => {
  const recommender = await share();
  browse(recommender, fixture.itemIds);
  assert.equal((await recommender.telemetry.flush()).accepted, 1);
  await recommender.setConsent('none');
  assert.deepEqual(await storage.entries(), {});
  await recommender.setConsent('share');
  browse(recommender, fixture.itemIds);
  assert.equal((await recommender.telemetry.flush()).notReportable, 'already_reported');
  assert.equal((await storage.get('reports')).lastWindowStart, today);
  assert.equal(collector.received.length, 1);
});

test('where nothing durable works, nothing is reported, and the preview says why', async () => {
  const fail = async () => {
    throw new Error('the disk is gone');
  };
  const broken = { description: 'broken', get: fail, update: fail, entries: fail, clear: fail };
  for (const lost of [broken, undefined]) {
    const recommender = await fixture.load({ storage: lost, consent: 'share', collectorUrl: collector.url, autoSend: true });
    browse(recommender, fixture.itemIds);
    const { report, notReportable } = await recommender.telemetry.preview();
    assert.deepEqual([report, notReportable], [null, 'no_storage']);
    assert.equal((await recommender.telemetry.flush()).notReportable, 'no_storage');
    browse(recommender, fixture.itemIds, { now: today + fixture.windowSeconds });
    await recommender.settled();
  }
  assert.equal(collector.received.length, 0);
});

test('a window that has ended is reported when the next one begins, under its own start', async () => {
  const recommender = await share();
  browse(recommender, fixture.itemIds);
  browse(recommender, fixture.itemIds, { now: today + fixture.windowSeconds });
  await recommender.telemetry.flush({ now: today + fixture.windowSeconds });
  assert.deepEqual(collector.received.map(({ report }) => report.window_start), [today, today + fixture.windowSeconds]);
});

test('a window that ended between two visits is reported on the second', async () => {
  const yesterday = today - fixture.windowSeconds;
  const first = await share();
  for (const itemId of fixture.itemIds.slice(0, 3)) first.observe({ itemId, kind: 'view', timestamp: yesterday });
  first.recommend({ now: yesterday + 60 });
  await first.settled();
  const second = await share({ autoSend: true });
  await second.settled();
  assert.deepEqual(collector.received.map(({ report }) => report.window_start), [yesterday]);
  second.free();
});

test('a failing collector is asked again later, never sooner than the stated time', async () => {
  collector.steps.push((response) => refuse(response, 500, 'storage'));
  const recommender = await share();
  browse(recommender, fixture.itemIds);
  const failed = await recommender.telemetry.flush({ now: today });
  assert.equal(failed.waiting, 1);
  assert.ok(failed.nextAttemptAt >= today + 60 && failed.nextAttemptAt <= today + 2 * HOUR, `${failed.nextAttemptAt - today}`);
  assert.equal((await recommender.telemetry.flush({ now: failed.nextAttemptAt - 1 })).waiting, 1);
  assert.equal(collector.received.length, 1);
  const sent = await recommender.telemetry.flush({ now: failed.nextAttemptAt });
  assert.equal(sent.accepted, 1);
  assert.equal(sent.waiting, 0);
  assert.equal(collector.received[0].body, collector.received[1].body);
});

/** The waits of a device whose sends all fail. */
async function waitsOf(attempts) {
  collector.steps.push(...Array.from({ length: attempts }, () => (response) => refuse(response, 503, 'overloaded')));
  const recommender = await share({ storage: new fixture.sanderling.MemoryStorage() });
  browse(recommender, fixture.itemIds);
  const waits = [];
  let now = today;
  for (let attempt = 0; attempt < attempts; attempt += 1) {
    const { nextAttemptAt } = await recommender.telemetry.flush({ now });
    waits.push(nextAttemptAt - now);
    now = nextAttemptAt;
  }
  return waits;
}

test('a wait is drawn between a minute and a bound that doubles up to a day', async (t) => {
  const bounds = [2, 4, 8, 16, 24, 24].map((hours) => hours * HOUR);
  const random = t.mock.method(Math, 'random', () => 0);
  assert.deepEqual(await waitsOf(6), bounds.map(() => 60));
  random.mock.mockImplementation(() => 0.5);
  assert.deepEqual(await waitsOf(6), bounds.map((bound) => bound / 2));
  random.mock.mockImplementation(() => 1 - 2 ** -32);
  assert.deepEqual(await waitsOf(6), bounds);
});

test('waits differ between devices', async () => {
  const waits = [];
  for (let device = 0; device < 6; device += 1) waits.push(...(await waitsOf(1)));
  assert.ok(new Set(waits).size > 3, `no jitter: ${waits}`);
});

test('a device makes 24 requests a day at most; the rest waits for the next', async () => {
  const waiting = (number) => ({ reportId: `${number}`, windowStart: 0, body: JSON.stringify({ report_id: `${number}` }), attempts: 0, notBefore: 0 });
  const fill = (first) => storage.update('reports', (reports) => ({ ...reports, lastWindowStart: 0, outbox: Array.from({ length: 16 }, (_, at) => waiting(first + at)) }));
  await fill(0);
  assert.equal((await (await share()).telemetry.flush({ now: today })).accepted, 16);
  await fill(16);
  // Whichever page or visit it is.
  const recommender = await share();
  const { accepted, waiting: left, nextAttemptAt } = await recommender.telemetry.flush({ now: today + HOUR });
  assert.deepEqual([accepted, left, collector.received.length], [8, 8, 24]);
  const tomorrow = today + 24 * HOUR;
  assert.ok(nextAttemptAt >= tomorrow + 60 && nextAttemptAt <= tomorrow + 2 * HOUR, `${nextAttemptAt - tomorrow}`);
  assert.equal((await recommender.telemetry.flush({ now: tomorrow - 1 })).accepted, 0);
  assert.equal((await recommender.telemetry.flush({ now: nextAttemptAt })).accepted, 8);
});

test('Retry-After is honoured, in seconds and as a date', async () => {
  collector.steps.push((response) => refuse(response, 429, 'overloaded', { 'retry-after': '600' }));
  const recommender = await share();
  browse(recommender, fixture.itemIds);
  const { nextAttemptAt } = await recommender.telemetry.flush({ now: today });
  assert.ok(nextAttemptAt >= today + 660 && nextAttemptAt <= today + 600 + 2 * HOUR, `${nextAttemptAt - today}`);
  const date = new Date(Date.now() + 900_000).toUTCString();
  collector.steps.push((response) => refuse(response, 503, 'overloaded', { 'retry-after': date }));
  const again = await recommender.telemetry.flush({ now: nextAttemptAt });
  assert.ok(again.nextAttemptAt - nextAttemptAt >= 890 + 60, `${again.nextAttemptAt - nextAttemptAt}`);
});

test('a lost answer is repeated and counted as a duplicate', async () => {
  collector.steps.push((response) => response.destroy(), (response, report) => accept(response, report, 'duplicate'));
  const recommender = await share();
  browse(recommender, fixture.itemIds);
  const lost = await recommender.telemetry.flush({ now: today });
  assert.equal(lost.waiting, 1);
  const found = await recommender.telemetry.flush({ now: lost.nextAttemptAt });
  assert.deepEqual([found.duplicate, found.waiting], [1, 0]);
  assert.equal(collector.received[0].report.report_id, collector.received[1].report.report_id);
});

test('an answer that does not come in time leaves the report in the outbox', async () => {
  collector.steps.push((response, report) => setTimeout(() => accept(response, report), 1500).unref());
  const recommender = await share({ sendTimeoutSeconds: 0.2 });
  browse(recommender, fixture.itemIds);
  const result = await recommender.telemetry.flush({ now: today });
  assert.deepEqual([result.accepted, result.waiting], [0, 1]);
});

test('a friendly 200 that is no receipt does not acknowledge', async () => {
  collector.steps.push((response) => response.end('<h1>Welcome to our network</h1>'));
  collector.steps.push((response) => response.end(JSON.stringify({ report_id: '0'.repeat(32), status: 'accepted' })));
  const recommender = await share();
  browse(recommender, fixture.itemIds);
  const first = await recommender.telemetry.flush({ now: today });
  assert.deepEqual([first.accepted, first.waiting], [0, 1]);
  const second = await recommender.telemetry.flush({ now: first.nextAttemptAt });
  assert.deepEqual([second.accepted, second.waiting], [0, 1]);
});

test('a final refusal drops the report and counts its code', async () => {
  collector.steps.push((response) => refuse(response, 400, 'unknown_bundle'));
  const recommender = await share();
  browse(recommender, fixture.itemIds);
  const result = await recommender.telemetry.flush();
  assert.deepEqual([result.dropped, result.waiting], [['unknown_bundle'], 0]);
  assert.deepEqual((await recommender.telemetry.preview()).counters.dropped, { unknown_bundle: 1 });
  await recommender.telemetry.flush();
  assert.equal(collector.received.length, 1);
});

test('only the collector\'s own refusal drops a report', async () => {
  const html = (response, status) => response.writeHead(status, { 'content-type': 'text/html' }).end('<h1>No</h1>');
  const json = (response, status, code) => response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify({ code }));
  const others = [
    (response) => html(response, 403), (response) => html(response, 404), (response) => html(response, 413),
    (response) => refuse(response, 404, 'not_found'), (response) => refuse(response, 400, 'some_other_service'),
    (response) => json(response, 400, 'report_invalid'), (response) => refuse(response, 500, 'report_invalid'),
  ];
  collector.steps.push(...others);
  const recommender = await share();
  browse(recommender, fixture.itemIds);
  let now = today;
  for (const _ of others) {
    const { dropped, waiting, nextAttemptAt } = await recommender.telemetry.flush({ now });
    assert.deepEqual([dropped, waiting], [[], 1]);
    now = nextAttemptAt;
  }
  assert.equal((await recommender.telemetry.flush({ now })).accepted, 1);
  assert.equal(collector.received.length, others.length + 1);
});

test('every refusal that the format page gives for good drops the report, and no other', async () => {
  const page = await readFile(join(REPO, 'docs/formats/report.md'), 'utf8');
  const refusals = [...page.matchAll(/^\| `(\w+)` \| (\d{3}) \|/gm)].map(([, code, status]) => ({ code, status: Number(status) }));
  assert.ok(refusals.length > 10);
  for (const { code, status } of refusals) {
    collector.steps.push((response) => refuse(response, status, code));
    const recommender = await share({ storage: new fixture.sanderling.MemoryStorage() });
    browse(recommender, fixture.itemIds);
    const { dropped, waiting } = await recommender.telemetry.flush();
    const isFinal = status < 500 && status !== 429;
    assert.deepEqual([dropped, waiting], isFinal ? [[code], 0] : [[], 1], code);
  }
});

test('the outbox outlives the recommender', async () => {
  await collector.close();
  const first = await share();
  browse(first, fixture.itemIds);
  const { waiting, nextAttemptAt } = await first.telemetry.flush({ now: today });
  assert.equal(waiting, 1);
  collector = await startCollector();
  const second = await share();
  assert.equal((await second.telemetry.flush({ now: nextAttemptAt })).accepted, 1);
  assert.equal(collector.received.length, 1);
});

test('two recommenders on one storage make one report of one window', async () => {
  const options = { storage, consent: 'share', collectorUrl: collector.url };
  const [left, right] = await Promise.all([fixture.loadOwn(options), fixture.loadOwn(options)]);
  for (const recommender of [left, right]) browse(recommender, fixture.itemIds);
  const results = await Promise.all([left.telemetry.flush(), right.telemetry.flush()]);
  assert.equal(results.reduce((sum, { accepted }) => sum + accepted, 0), 1);
  assert.equal(new Set(collector.received.map(({ report }) => report.report_id)).size, 1);
  left.free();
  right.free();
});

test('an outcome belongs to the window of its list', async () => {
  const yesterday = today - fixture.windowSeconds;
  const recommender = await share();
  for (const itemId of fixture.itemIds.slice(0, 3)) recommender.observe({ itemId, kind: 'view', timestamp: yesterday });
  recommender.recommend({ now: yesterday + 60 });
  recommender.recordOutcome({ position: 2 });
  recommender.recommend({ now: yesterday + 90 });
  const { state, windowStart } = await recommender.telemetry.preview();
  assert.deepEqual([windowStart, state.current.num_lists], [yesterday, 2]);
  assert.deepEqual(state.current.fields.find(({ name }) => name === 'outcome.position').counts, [0, 0, 1, 0, 0, 0]);
});

test('of a list its first ten places are counted, and what pins push behind them is not', async () => {
  const counted = async (pins) => {
    const recommender = await fixture.load();
    browse(recommender, fixture.itemIds, { limit: 20, rules: { pins } });
    const { fields } = (await recommender.telemetry.preview()).state.current;
    const total = (name) => fields.find((field) => field.name === name).counts.reduce((sum, count) => sum + count);
    return ['score.retrieval', 'score.ranker', 'impression.source'].map(total);
  };
  const pins = fixture.itemIds.slice(-4).map((itemId, at) => ({ itemId, position: at + 1 }));
  assert.deepEqual(await counted([]), [10, 10, 10]);
  assert.deepEqual(await counted(pins), [6, 6, 10]);
});

test('after "later", the rest of the outbox is not tried in the same round', async () => {
  collector.steps.push((response) => refuse(response, 503, 'overloaded', { 'retry-after': '60' }));
  const recommender = await share();
  const waiting = (reportId) => ({ reportId, windowStart: 0, body: JSON.stringify({ report_id: reportId }), attempts: 0, notBefore: 0 });
  await storage.update('reports', () => ({ lastWindowStart: 0, outbox: ['a', 'b', 'c'].map(waiting), counters: {} }));
  const result = await recommender.telemetry.flush({ now: today });
  assert.equal(result.waiting, 3);
  assert.equal(collector.received.length, 1);
  assert.equal((await recommender.telemetry.flush({ now: result.nextAttemptAt })).accepted, 3);
});

test('where a claim cannot be written, nothing is sent', async () => {
  const recommender = await share();
  browse(recommender, fixture.itemIds);
  await recommender.settled();
  collector.steps.push((response) => refuse(response, 503, 'storage'));
  const { nextAttemptAt } = await recommender.telemetry.flush({ now: today });
  const { update } = storage;
  storage.update = (key, change) => update.call(storage, key, (current) => {
    change(current);
    throw new Error('the disk is full');
  });
  assert.equal((await recommender.telemetry.flush({ now: nextAttemptAt })).waiting, 1);
  assert.equal(collector.received.length, 1);
  storage.update = update;
  assert.equal((await recommender.telemetry.flush({ now: nextAttemptAt })).accepted, 1);
});

test('what was freed sends nothing any more', async (t) => {
  collector.steps.push((response) => refuse(response, 503, 'overloaded'));
  const first = await share({ autoSend: false });
  browse(first, fixture.itemIds);
  await first.telemetry.flush();
  first.free();
  await storage.update('reports', (reports) => ({ ...reports, outbox: reports.outbox.map((report) => ({ ...report, notBefore: 0 })) }));
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const answers = [];
  const second = await share({ autoSend: true, fetch: () => new Promise((answer) => answers.push(answer)) });
  for (let turn = 0; turn < 100 && answers.length === 0; turn += 1) await new Promise(setImmediate);
  second.free();
  answers[0](new Response('', { status: 503 }));
  for (let hour = 0; hour < 48; hour += 1) {
    for (let turn = 0; turn < 5; turn += 1) await new Promise(setImmediate);
    t.mock.timers.tick(HOUR * 1000);
  }
  assert.equal(answers.length, 1);
});

test('a clock that was ahead and is put right does not end reports until then', async (t) => {
  const now = Date.now.bind(Date);
  let aheadSeconds = 400 * 24 * HOUR;
  t.mock.method(Date, 'now', () => now() + aheadSeconds * 1000);
  const first = await share();
  browse(first, fixture.itemIds);
  await first.telemetry.flush();
  browse(first, fixture.itemIds);
  await first.settled();
  first.free();
  aheadSeconds = 0;
  const second = await share();
  browse(second, fixture.itemIds);
  assert.equal((await second.telemetry.flush()).notReportable, 'already_reported', 'which windows were is not known');
  assert.ok((await second.telemetry.preview()).windowStart <= now() / 1000);
  aheadSeconds = fixture.windowSeconds;
  browse(second, fixture.itemIds);
  const { closed, accepted } = await second.telemetry.flush();
  assert.deepEqual([closed, accepted], [true, 1]);
  // Without a new visit, too.
  aheadSeconds = 400 * 24 * HOUR;
  browse(second, fixture.itemIds);
  aheadSeconds = 3 * fixture.windowSeconds;
  browse(second, fixture.itemIds);
  assert.ok((await second.telemetry.preview()).windowStart <= now() / 1000 + aheadSeconds);
});

test('a clock that falls behind and is put right is no way to report a window twice', async (t) => {
  const now = Date.now.bind(Date);
  let aheadSeconds = 0;
  t.mock.method(Date, 'now', () => now() + aheadSeconds * 1000);
  const reported = async (expected) => {
    const recommender = await share();
    browse(recommender, fixture.itemIds);
    const { closed, notReportable } = await recommender.telemetry.flush();
    assert.deepEqual([closed, notReportable], expected);
    await recommender.settled();
    recommender.free();
  };
  const once = [true, null];
  const twice = [false, 'already_reported'];
  await reported(once);
  const erasing = await share();
  await erasing.erase();
  erasing.free();
  aheadSeconds = -40 * fixture.windowSeconds;
  await reported(twice);
  aheadSeconds += fixture.windowSeconds;
  await reported(once);
  aheadSeconds = 0;
  await reported(twice);
  aheadSeconds = fixture.windowSeconds;
  await reported(once);
  await reported(twice);
  // Of several windows, each is known.
  for (const window of [2, 3, 4]) {
    aheadSeconds = window * fixture.windowSeconds;
    await reported(once);
  }
  for (const [window, expected] of [[0, twice], [1, twice], [2, twice], [3, twice], [4, twice], [10, once], [5, twice], [8, once], [9, once], [10, twice]]) {
    aheadSeconds = window * fixture.windowSeconds;
    await reported(expected);
  }
});

test('without a collector nothing is queued', async () => {
  const recommender = await fixture.load({ storage, consent: 'share' });
  browse(recommender, fixture.itemIds);
  assert.equal((await recommender.telemetry.flush()).notReportable, 'no_collector');
});

test('a window without a list made from a session is not reported', async () => {
  const recommender = await share();
  recommender.recommend();
  assert.equal((await recommender.telemetry.flush()).notReportable, 'nothing_observed');
  assert.equal(collector.received.length, 0);
});

test('a time far in the future counts nothing and closes nothing', async () => {
  const recommender = await share();
  browse(recommender, fixture.itemIds);
  const { state } = await recommender.telemetry.preview();
  recommender.recommend({ now: Number.MAX_SAFE_INTEGER });
  recommender.observe({ itemId: fixture.itemIds[0], kind: 'view', timestamp: today + 400 * fixture.windowSeconds });
  const after = await recommender.telemetry.preview();
  assert.equal(after.windowStart, today);
  assert.deepEqual(after.state, state);
  assert.notEqual(after.report, null);
});
