// The collector's dashboard in Chromium, as a person sees it. The collector is the example `dashboard_demo`: a made-up
// shop with a fortnight of reports, at the end of which a field drifts, and people with a short history choose less.
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { after, before, beforeEach, test } from 'node:test';

import { launch } from '../../www/tools/browser.mjs';
import { REPO } from './lib/paths.mjs';

const DRIFTED = 'interaction.category';
const SEGMENTED = 'outcome.history';
const FIELDS = [DRIFTED, SEGMENTED, 'score.ranker', 'session.length', 'feature.item_age_days', 'outcome.position'];
const PHONE = { width: 390, height: 844 };
const DESKTOP = { width: 1280, height: 900 };

let program;
let demo;
let browser;
let page;
let problems;

/** The example, built with the features of the default members, as `cargo test` leaves it. */
function buildDemo() {
  if (process.env.SANDERLING_DASHBOARD_DEMO) return process.env.SANDERLING_DASHBOARD_DEMO;
  const locked = process.env.SANDERLING_LOCKED ? ['--locked'] : [];
  const { status, stderr } = spawnSync('cargo', ['build', ...locked, '--example', 'dashboard_demo'], { cwd: REPO, encoding: 'utf8' });
  assert.equal(status, 0, stderr);
  return join(process.env.CARGO_TARGET_DIR ?? join(REPO, 'target'), 'debug', 'examples', 'dashboard_demo');
}

/** Starts a collector; ends with its standard input. */
async function startDemo(...args) {
  const child = spawn(program, args, { stdio: ['pipe', 'pipe', 'inherit'] });
  const line = await new Promise((resolve, reject) => {
    createInterface({ input: child.stdout }).once('line', resolve);
    child.once('error', reject).once('close', (code) => reject(new Error(`the collector ended with ${code}`)));
  });
  const close = () => new Promise((resolve) => {
    if (child.exitCode !== null) return resolve();
    return child.removeAllListeners('close').once('close', resolve).stdin.end();
  });
  return { ...JSON.parse(line), close };
}

before(async () => {
  program = buildDemo();
  demo = await startDemo();
  browser = await launch({ viewport: DESKTOP });
});

beforeEach(async () => {
  await page?.close();
  page = await browser.context.newPage();
  problems = [];
  page.on('pageerror', (error) => problems.push(error.message));
  page.on('console', (message) => message.type() === 'error' && problems.push(message.text()));
});

after(async () => {
  await browser?.close();
  await demo?.close();
});

async function open({ admin_url: url, token } = demo) {
  await page.goto(`${url}/`);
  await page.locator('#token').fill(token);
  await page.keyboard.press('Enter');
  await page.locator('#verdict:not(:empty)').waitFor();
}

const texts = (selector) => page.locator(selector).allTextContents();

/** How many pixels of a chart have a colour of the style sheet. */
const pixels = (container, variable) => page.locator(`${container} canvas`).evaluate((canvas, name) => {
  const probe = document.createElement('canvas').getContext('2d');
  probe.fillStyle = getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  probe.fillRect(0, 0, 1, 1);
  const [red, green, blue] = probe.getImageData(0, 0, 1, 1).data;
  const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
  let count = 0;
  for (let at = 0; at < data.length; at += 4) count += data[at] === red && data[at + 1] === green && data[at + 2] === blue && data[at + 3] === 255;
  return count;
}, variable);

test('the drifted field is named, first and in words', async () => {
  await open();
  assert.match(await page.locator('#verdict').textContent(), /^DRIFT in 2 of 6 judged fields\. 1\d,\d{3} reports in 7 windows\.$/);
  const rows = await texts('#fields tbody tr');
  assert.equal(rows.length, FIELDS.length);
  assert.match(rows[0], new RegExp(`^${DRIFTED}DRIFT`));
  assert.match(rows[1], new RegExp(`^${SEGMENTED}DRIFT`));
  for (const field of FIELDS) assert.ok(rows.some((row) => row.startsWith(field)), `${field} is not listed`);
  for (const row of rows.slice(2)) assert.doesNotMatch(row, /DRIFT/);
  assert.doesNotMatch(rows.find((row) => row.startsWith('outcome.position')), /nothing to compare/, 'the windows before are');
  assert.deepEqual(problems, []);
});

test('charts show drift, bands and baseline; their numbers are there as text', async () => {
  await open();
  assert.ok((await pixels('#effect', '--danger')) > 100, 'no mark of drift');
  assert.ok((await pixels('#effect', '--accent')) > 100, 'no line');
  assert.ok((await pixels('#shares', '--quiet')) > 1000, 'no bars of the baseline');
  assert.ok((await pixels('#shares', '--accent')) > 20, 'no shares');
  assert.ok((await pixels('#reports', '--accent')) > 1000, 'no bars of reports');
  await page.locator('#effect summary').click();
  const windows = await texts('#effect tbody tr');
  assert.equal(windows.length, 13, 'the small window of today is not judged');
  assert.match(windows[0], /DRIFT$/);
  assert.match(windows.at(-1), /calm$/);
  await page.locator('#shares summary').click();
  assert.deepEqual(await texts('#shares tbody th'), ['books', 'games', 'music', 'everything else']);
  await page.locator('#reports summary').click();
  assert.match((await texts('#reports tbody tr'))[0], /under 100$/);
  assert.deepEqual(problems, []);
});

test('a field says for whom it moved', async () => {
  await open();
  await page.locator('#field').selectOption(SEGMENTED);
  const rows = await texts('#shares details:last-child tbody tr');
  assert.equal(rows.length, 5);
  assert.match(rows[1], /^history 1-2\d+\.\d %\d+\.\d %chosen [67]\d\.\d % → [345]\d\.\d %$/);
  for (const row of [rows[0], ...rows.slice(2)]) assert.match(row, /(no clear change|too few answers)$/);
  await page.locator('#field').selectOption(DRIFTED);
  assert.match(await page.locator('#shares > p.muted').textContent(), /^interaction\.category: (games|books) \d\d\.\d % → \d\d\.\d %/);
  await page.locator('#field').selectOption('outcome.position');
  assert.equal(await page.locator('#shares > p.muted').textContent(), 'outcome.position. Verdicts leave untold out.');
  assert.equal(await page.locator('#shares details').count(), 1, 'a field without segments has no such table');
  assert.deepEqual(problems, []);
});

test('another field is chosen with the keyboard alone', async () => {
  await open();
  const button = page.locator('#fields button', { hasText: 'session.length' });
  await button.focus();
  await page.keyboard.press('Enter');
  assert.equal(await button.getAttribute('aria-pressed'), 'true');
  assert.equal(await page.locator('#field').inputValue(), 'session.length');
  await page.locator('#shares summary').focus();
  await page.keyboard.press('Enter');
  assert.deepEqual(await texts('#shares tbody th'), ['under 2', '2 to 4', '4 to 8', '8 to 16', '16 and over']);
  await page.locator('#field').selectOption('outcome.position');
  assert.match(await page.locator('#shares').textContent(), /in the windows before.*4-10/);
  assert.deepEqual(problems, []);
});

test('bundles, refusals and decisions are listed', async () => {
  await open();
  assert.deepEqual(await texts('#bundles tbody th'), ['shop 1', 'shop 2']);
  assert.match((await texts('#bundles tbody tr'))[0], /over 4\d,\d{3}14/);
  assert.deepEqual(await texts('#rejections tbody tr'), ['report_invalid3', 'unknown_bundle1']);
  const decisions = await texts('#decisions li');
  assert.match(decisions[0], /^challenger_trained .*reason interaction\.category drifted$/);
  assert.match(decisions[1], /^promoted /);
  await page.locator('#bundles button', { hasText: 'shop 2' }).click();
  await page.locator('#verdict', { hasText: 'No reports have arrived yet.' }).waitFor();
  for (const id of ['#effect', '#shares', '#reports']) assert.match(await page.locator(id).textContent(), /No reports/);
  assert.deepEqual(problems, []);
});

test('a wrong token is told, the right one is kept for the tab alone', async () => {
  await page.goto(`${demo.admin_url}/`);
  await page.locator('#token').fill('certainly-not-the-token');
  await page.locator('#token-form button').click();
  await page.locator('#token-problem', { hasText: 'does not know this token' }).waitFor();
  assert.ok(await page.locator('#sections').isHidden());
  assert.ok(problems.every((problem) => problem.includes('401')), problems.join());
  await page.locator('#token').fill(demo.token);
  await page.keyboard.press('Enter');
  await page.locator('#verdict:not(:empty)').waitFor();
  await page.reload();
  await page.locator('#verdict:not(:empty)').waitFor();
  assert.deepEqual(await page.evaluate(() => [Object.keys(localStorage), document.cookie]), [[], '']);
  await page.locator('#forget').click();
  assert.ok(await page.locator('#token-form').isVisible());
  await page.reload();
  assert.ok(await page.locator('#token-form').isVisible());
});

test('a collector without bundles says so, and one that went away too', async () => {
  const empty = await startDemo('--none');
  await page.goto(`${empty.admin_url}/`);
  await page.locator('#token').fill(empty.token);
  await page.keyboard.press('Enter');
  await page.locator('#bundles', { hasText: 'No bundle is registered' }).waitFor();
  assert.match(await page.locator('#verdict').textContent(), /No reports/);
  assert.match(await page.locator('#rejections').textContent(), /None since the collector started/);
  assert.match(await page.locator('#decisions').textContent(), /None have been written down/);
  assert.deepEqual(problems, []);
  await empty.close();
  await page.locator('#refresh').click();
  await page.locator('#message', { hasText: 'cannot be reached' }).waitFor();
});

test('a phone shows all of it without scrolling sideways', async () => {
  await page.setViewportSize(PHONE);
  await open();
  const { width, inner } = await page.evaluate(() => ({ width: document.documentElement.scrollWidth, inner: innerWidth }));
  assert.ok(width <= inner, `${width} of ${inner} px`);
  assert.ok((await page.locator('#effect canvas').boundingBox()).width <= PHONE.width);
});
