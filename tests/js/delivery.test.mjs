// Reports in a real browser: whatever ends a page, and whatever the collector answers, each window is counted once.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import { findBrowser } from '../../www/tools/browser.mjs';
import { openPage } from './lib/chromium.mjs';
import { accept, refuse, startCollector } from './lib/collector.mjs';
import { openFixture } from './lib/fixture.mjs';
import { evaluateUntilStopped, withPage as withPageOf } from './lib/stopping.mjs';

const noBrowser = findBrowser() === undefined && 'no Chromium is installed';
const DAY = 86_400;
/** An hour into a window. */
const NOW = Math.floor(Date.now() / 1000 / DAY) * DAY - DAY + 3600;

let fixture;
let collector;
let opened;

before(async () => {
  if (noBrowser) return;
  fixture = await openFixture();
  collector = await startCollector();
  opened = await openPage({ project: fixture.project, bundle: fixture.bundle });
});

after(async () => {
  await opened?.close();
  await collector?.close();
  fixture?.engine.free();
});

/** The collector as it is: a report that it knows is a duplicate. */
function counting(answers = []) {
  const counted = new Set();
  const answer = (response, report) => {
    const step = answers.shift();
    if (step !== undefined) return step(response, report, counted);
    const known = counted.has(report.report_id);
    counted.add(report.report_id);
    return accept(response, report, known ? 'duplicate' : 'accepted');
  };
  collector.steps.length = 0;
  collector.steps.push(...Array.from({ length: 500 }, () => answer));
  return counted;
}

/**
 * A visit: three interactions and a list where `browse`, then a flush at `now`. Where the page comes to its `dieAt`-th step (a look into the database, a write, a
 * random number, a request), it stops for good in the middle of it, as if its process were gone.
 */
async function visit({ storageName, now, browse = false, dieAt = Infinity, page }) {
  const { url, items } = { url: collector.url, items: fixture.itemIds.slice(0, 3) };
  return evaluateUntilStopped(page, async ({ storageName, now, browse, dieAt, url, items }) => {
    const { Recommender } = await import(new URL('sanderling/dist/browser.js', location.href));
    const steps = standStillAt(dieAt);
    const recommender = await Recommender.load({ baseUrl: './bundle/', consent: 'share', collectorUrl: url, storageName, autoSend: false, keepBundle: false });
    if (browse) {
      for (const itemId of items) recommender.observe({ itemId, kind: 'view', timestamp: now });
      recommender.recommend({ now: now + 60 });
      recommender.recordOutcome({ position: 1 });
      await recommender.settled();
    }
    const result = await recommender.telemetry.flush({ now: now + 120 });
    recommender.free();
    return { steps: steps(), waiting: result.waiting };
  }, { storageName, now, browse, dieAt, url, items });
}

const withPage = (work) => withPageOf(opened, work);

test('a page that ends anywhere loses no report and sends none twice', { skip: noBrowser }, async () => {
  const undisturbed = counting();
  const { steps } = await withPage((page) => visit({ page, storageName: 'whole', now: NOW, browse: true }));
  assert.equal(undisturbed.size, 1);
  assert.ok(steps > 10, `${steps} steps`);
  const delivered = new Set();
  // Each takes a second or two: every fourth, unless all are asked for.
  const stride = process.env.SANDERLING_EVERY_STEP === undefined ? 4 : 1;
  for (let dieAt = 1; dieAt <= steps; dieAt += stride) {
    const storageName = `killed-${dieAt}`;
    const counted = counting();
    assert.equal(await withPage((page) => visit({ page, storageName, now: NOW, browse: true, dieAt })), 'frozen', `step ${dieAt}`);
    // Three days without a network, then online.
    const { waiting } = await withPage((page) => visit({ page, storageName, now: NOW + 3 * DAY }));
    assert.equal(waiting, 0, `killed at step ${dieAt}: nothing waits any more`);
    const windows = collector.received.filter(({ report }) => counted.has(report.report_id)).map(({ report }) => report.window_start);
    assert.ok(counted.size <= 1 && new Set(windows).size === counted.size, `killed at step ${dieAt}: ${counted.size} reports of one window`);
    if (counted.size > 0) delivered.add(dieAt);
    collector.received.length = 0;
  }
  // Before anything was written there is nothing to report; from then on there is a report, wherever the page ends.
  const first = Math.min(...delivered);
  const later = Math.ceil((steps - first + 1) / stride);
  assert.ok(delivered.size >= later - 1 && first < steps / 2, `first at step ${first} of ${steps}, ${delivered.size} times`);
});

test('two tabs in a storm of failures send one report', { skip: noBrowser }, async () => {
  const down = (response) => refuse(response, 503, 'storage', { 'retry-after': '1' });
  const lost = (response, report, counted) => {
    counted.add(report.report_id);
    response.destroy();
  };
  const counted = counting([down, lost, down, down, lost]);
  const both = (now, browse) => Promise.all([1, 2].map(() => withPage((page) => visit({ page, storageName: 'tabs', now, browse }))));
  await both(NOW, true);
  let waiting = 1;
  for (let hours = 24; hours <= 240 && waiting > 0; hours += 24) waiting = Math.max(...(await both(NOW + hours * 3600, false)).map((one) => one.waiting));
  assert.equal(waiting, 0);
  assert.equal(counted.size, 1);
});

test('a page whose storage is refused recommends and sends nothing', { skip: noBrowser }, async () => {
  const counted = counting();
  await withPage(async (page) => {
    await page.evaluate(() => {
      IDBFactory.prototype.open = () => {
        throw new DOMException('refused', 'SecurityError');
      };
    });
    await visit({ page, storageName: 'refused', now: NOW, browse: true });
  });
  assert.equal(counted.size, 0);
});
