// One real browser session on the demo site:
// `node session.mjs --url URL --bundle DIR --screenshots DIR [--share yes|no]`.
// Asserts what a person would look for, saves screenshots, and prints a JSON object. Where no
// browser is found, it measures in Node, says so, and exits 0 with `"browser": null`.
import assert from 'node:assert/strict';
import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

import { measure } from '../demo/measure.js';
import { Recommender } from '../pkg/dist/node.js';
import { findBrowser, launch } from './browser.mjs';
import { readFlags } from './flags.mjs';

const PHONE = { width: 390, height: 844 };
const DESKTOP = { width: 1360, height: 880 };
const NUM_CLICKS = 4;
const NUM_TIMED_CALLS = 240;

/** Plays the session; `share` says whether a report is sent to the collector. */
export async function playSession({ url, bundle, screenshots, share = true }) {
  await mkdir(screenshots, { recursive: true });
  if (findBrowser() === undefined) return { browser: null, runtime: `node ${process.version}`, bench: await benchInNode(bundle) };
  const { context, version, close } = await launch({ viewport: DESKTOP, reducedMotion: 'reduce' });
  try {
    const page = context.pages()[0] ?? (await context.newPage());
    const problems = watch(page);
    const shop = await visitShop(page, url, screenshots);
    const privacy = await visitPrivacyPanel(page, screenshots, share);
    await photographPhone(page, url, screenshots);
    const bench = await runBench(page, url);
    assert.deepEqual(problems, [], 'the page reported problems');
    return { browser: version, runtime: 'chromium', ...shop, privacy, bench, screenshots };
  } finally {
    await close();
  }
}

/** Collects errors of the page's scripts and policies. */
function watch(page) {
  const problems = [];
  page.on('pageerror', (error) => problems.push(error.message));
  page.on('console', (message) => {
    if (message.type() === 'error') problems.push(message.text());
  });
  return problems;
}

async function visitShop(page, url, screenshots) {
  await page.goto(url);
  await page.locator('#suggestions .suggestion').first().waitFor();
  await page.screenshot({ path: join(screenshots, 'desktop-start.png') });
  const before = await suggestedIds(page);
  assert.ok(before.length > 0, 'nothing is recommended without a session');
  for (let click = 0; click < NUM_CLICKS; click += 1) await page.locator('#grid .card').nth(click * 3).click();
  await page.locator('#suggestions .suggestion').nth(1).click();
  const after = await suggestedIds(page);
  assert.ok(after.length > 0, 'nothing is recommended for the session');
  assert.notDeepEqual(after, before, 'the session does not change the list');
  const reasons = await page.locator('#suggestions .reason').allTextContents();
  assert.ok(reasons.some((reason) => reason.startsWith('Because you viewed')), `no reason names a viewed item: ${reasons}`);
  assert.match(await page.locator('#session-count').textContent(), new RegExp(`${NUM_CLICKS + 1} viewed`));
  await page.evaluate(() => window.scrollTo(0, 0));
  await page.screenshot({ path: join(screenshots, 'desktop.png') });
  const timing = (id) => page.locator(id).textContent();
  return { num_suggestions: after.length, reasons, load: await timing('#load-time'), call: await timing('#call-time') };
}

async function visitPrivacyPanel(page, screenshots, share) {
  await page.locator('#open-privacy').click();
  const panel = page.locator('#privacy');
  await panel.waitFor();
  await idle(page);
  assert.match(await page.locator('#stored-summary').textContent(), /5 interactions/);
  await page.screenshot({ path: join(screenshots, 'privacy.png') });
  await checkStored(page, ['session', 'telemetry/']);
  const sent = share ? await shareReport(page, screenshots) : null;
  await checkStored(page, share ? ['reports', 'session'] : ['session', 'telemetry/']);
  await page.locator('#erase').click();
  await idle(page);
  assert.match(await page.locator('#stored-summary').textContent(), /0 interactions/);
  assert.match(await page.locator('#session-count').textContent(), /nothing yet/);
  // The list without a session, which the page makes after the erase, is counted again.
  await checkStored(page, share ? ['reports', 'telemetry/'] : ['telemetry/']);
  await choose(page, 'none');
  assert.match(await page.locator('#stored-summary').textContent(), /Nothing is stored/);
  await checkStored(page, []);
  await choose(page, 'device');
  await page.locator('#close-privacy').click();
  return { erased: true, shared: sent };
}

/** The panel shows what the browser really stores, under these keys, and the consent that is stored. */
async function checkStored(page, keys) {
  const shown = JSON.parse(await page.locator('#stored').textContent());
  const stored = await page.evaluate(readStored);
  assert.deepEqual(shown, stored, 'the panel shows something else than what is stored');
  const found = Object.keys(stored.records).map((key) => key.replace(/[^/]*$/, (end) => (/^[0-9a-f]{64}$/.test(end) ? '' : end)));
  assert.deepEqual(found.toSorted(), keys, 'other records are stored than expected');
  const checked = await page.locator('#consent input:checked').getAttribute('value');
  assert.equal(checked, stored.page['sanderling-demo-consent'] ?? 'device', 'the consent on show is not the stored one');
}

/** Runs in the page: every record of every database, and the page's own storage. */
async function readStored() {
  const done = (request) => new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
  const records = {};
  for (const { name } of await indexedDB.databases()) {
    const database = await done(indexedDB.open(name));
    for (const store of database.objectStoreNames) {
      const open = database.transaction(store).objectStore(store);
      for (const key of await done(open.getAllKeys())) records[key] = await done(open.get(key));
    }
    database.close();
  }
  return { records, page: { ...localStorage } };
}

async function choose(page, consent) {
  await page.locator(`#consent input[value="${consent}"]`).check();
  await idle(page);
}

async function shareReport(page, screenshots) {
  await choose(page, 'share');
  const report = JSON.parse(await page.locator('#report').textContent());
  assert.match(report.report_id, /^[0-9a-f]{32}$/);
  await page.screenshot({ path: join(screenshots, 'privacy-share.png') });
  await page.locator('#send').click();
  await idle(page);
  const status = await page.locator('#privacy-status').textContent();
  assert.match(status, /acknowledged/, `the report was not acknowledged: ${status}`);
  return { report_id: report.report_id, fields: report.observations.map(({ field }) => field) };
}

async function photographPhone(page, url, screenshots) {
  await page.setViewportSize(PHONE);
  await page.goto(url);
  await page.locator('#suggestions .suggestion').first().waitFor();
  for (const click of [0, 5, 9]) await page.locator('#grid .card').nth(click).click();
  await page.evaluate(() => window.scrollTo(0, 0));
  const overflow = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
  assert.ok(overflow <= 0, `the page is ${overflow} pixels wider than a phone`);
  await page.screenshot({ path: join(screenshots, 'phone.png') });
  await page.locator('#open-privacy').click();
  await idle(page);
  await page.screenshot({ path: join(screenshots, 'phone-privacy.png') });
  await page.locator('#close-privacy').click();
  await page.emulateMedia({ colorScheme: 'dark' });
  await page.screenshot({ path: join(screenshots, 'phone-dark.png') });
  await page.setViewportSize(DESKTOP);
  await page.screenshot({ path: join(screenshots, 'desktop-dark.png') });
}

async function runBench(page, url) {
  await page.goto(new URL(`bench.html?calls=${NUM_TIMED_CALLS}`, url).href);
  return page.evaluate(() => window.__bench);
}

async function benchInNode(bundle) {
  const recommender = await Recommender.load({ baseUrl: bundle, consent: 'none' });
  const { engine } = recommender;
  const itemIds = Array.from({ length: engine.len() }, (_, row) => engine.itemId(row));
  const timings = await measure(recommender, itemIds, NUM_TIMED_CALLS);
  recommender.free();
  return timings;
}

function suggestedIds(page) {
  return page.locator('#suggestions .suggestion').evaluateAll((found) => found.map((one) => one.dataset.itemId));
}

/** Waits until the panel has finished what it was asked to do. */
async function idle(page) {
  await page.locator('#privacy[aria-busy="false"]').waitFor();
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  const required = { required: true };
  const flags = readFlags({ url: required, bundle: required, screenshots: required, share: { default: 'yes' } });
  console.log(JSON.stringify(await playSession({ ...flags, share: flags.share === 'yes' })));
}
