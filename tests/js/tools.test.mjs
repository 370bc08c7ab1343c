import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';

import { decodeVocabulary } from '../../www/pkg/dist/vocabulary.js';
import { findBrowser } from '../../www/tools/browser.mjs';
import { serve } from '../../www/tools/serve.mjs';
import { playSession } from '../../www/tools/session.mjs';
import { compressed } from '../../www/tools/sizes.mjs';
import { assemble } from '../../www/tools/site.mjs';
import { startCollector } from './lib/collector.mjs';
import { openFixture } from './lib/fixture.mjs';
import { REPO, WWW } from './lib/paths.mjs';

const run = promisify(execFile);

let fixture;
let folder;

before(async () => {
  fixture = await openFixture();
  folder = await mkdtemp(join(tmpdir(), 'sanderling-tools-'));
});

after(async () => {
  fixture.engine.free();
  await rm(folder, { recursive: true, force: true });
});

test('the static server serves its folder and nothing outside', async () => {
  const root = join(folder, 'root');
  await mkdir(join(root, 'sub'), { recursive: true });
  await writeFile(join(folder, 'secret.txt'), 'secret');
  await writeFile(join(root, 'index.html'), '<p>hello');
  await writeFile(join(root, 'a.wasm'), 'wasm');
  await symlink(join(folder, 'secret.txt'), join(root, 'link.txt'));
  const server = await serve({ root });
  const { port } = new URL(server.url);
  assert.equal((await fetch(server.url)).headers.get('content-type'), 'text/html; charset=utf-8');
  assert.equal((await fetch(`${server.url}/a.wasm?sha256=1`)).headers.get('content-type'), 'application/wasm');
  // Over a plain socket: a URL parser would resolve the dots before they are sent.
  for (const path of ['/../secret.txt', '/%2e%2e/secret.txt', '/sub/../../secret.txt', '/..%2fsecret.txt', '/..%5csecret.txt', '/link.txt', '/%00', '/%', '/sub', '//etc/passwd', '/none']) {
    const answer = await raw(port, `GET ${path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n`);
    assert.match(answer, /^HTTP\/1\.1 404 /, path);
    assert.ok(!answer.includes('secret\n'), path);
  }
  assert.equal((await fetch(server.url, { method: 'POST' })).status, 405);
  await server.close();
});

test('the size report counts what a server may send', async () => {
  const bytes = await readFile(join(WWW, 'pkg/wasm/sanderling_wasm.js'));
  const { raw_bytes: raw, gzip_bytes: gzip, brotli_bytes: brotli } = compressed(bytes);
  assert.equal(raw, bytes.length);
  assert.ok(raw > gzip && gzip > brotli && brotli > 0);
});

test('the tools refuse arguments that they do not know', async () => {
  for (const args of [['serve.mjs'], ['serve.mjs', '--root'], ['serve.mjs', '--wrong', '1'], ['devices.mjs', '--bundle', '.']]) {
    await assert.rejects(run(process.execPath, [join(WWW, 'tools', args[0]), ...args.slice(1)]), { code: 2 });
  }
});

test('simulated devices report once each over real HTTP', async () => {
  const collector = await startCollector();
  const now = Math.floor(Date.now() / 1000);
  const act = (itemId, step) => ({ item_id: itemId, kind: 'view', timestamp: now - 300 + step });
  const device = (offset) => ({
    history: fixture.itemIds.slice(offset, offset + 3).map((itemId, step) => act(itemId, step)),
    interactions: fixture.itemIds.slice(offset + 3, offset + 6).map((itemId, step) => act(itemId, 100 + step)),
  });
  const devices = join(folder, 'devices.jsonl');
  await writeFile(devices, Array.from({ length: 12 }, (_, index) => JSON.stringify(device(index))).join('\n'));
  const args = ['--bundle', fixture.bundle, '--devices', devices, '--collector', collector.url, '--limit', '10'];
  const { stdout } = await run(process.execPath, [join(WWW, 'tools/devices.mjs'), ...args]);
  const totals = JSON.parse(stdout);
  assert.deepEqual([totals.devices, totals.closed, totals.acknowledged, totals.rejected, totals.recommendations], [10, 10, 10, 0, 30]);
  assert.equal(new Set(collector.received.map(({ report }) => report.report_id)).size, 10);
  await collector.close();
});

test('a person can use the demo shop', { skip: findBrowser() === undefined && 'no Chromium is installed' }, async (context) => {
  const collector = await startCollector();
  context.after(() => collector.close());
  const out = join(folder, 'site');
  const catalogue = join(folder, 'catalogue.json');
  await writeFile(catalogue, JSON.stringify(catalogueOf(fixture.files)));
  await assemble({ out, bundle: fixture.bundle, catalogue, collector: collector.url });
  const server = await serve({ root: out });
  context.after(() => server.close());
  const screenshots = process.env.SANDERLING_SCREENSHOTS ?? join(folder, 'screenshots');
  const session = await playSession({ url: `${server.url}/`, bundle: fixture.bundle, screenshots, share: true });
  assert.equal(session.num_suggestions, 10);
  assert.equal(collector.received.length, 1);
  assert.equal(collector.received[0].report.report_id, session.privacy.shared.report_id);
  assert.ok(session.bench.p50_millis > 0 && session.bench.p95_millis >= session.bench.p50_millis);
  assert.equal(session.bench.num_calls, 240);
});

for (const lockFile of ['www/package-lock.json', 'tests/js/bundlers/package-lock.json']) {
  test(`${lockFile} names no registry`, async () => {
    const lock = JSON.parse(await readFile(join(REPO, lockFile), 'utf8'));
    for (const [name, { resolved, integrity }] of Object.entries(lock.packages)) {
      if (name === '') continue;
      assert.equal(resolved, undefined, name);
      assert.match(integrity, /^sha512-/, name);
    }
  });
}

/** What the page shows for a bundle's items, where no catalogue is at hand. */
function catalogueOf(files) {
  const vocabulary = decodeVocabulary(files['vocabulary.bin']);
  return vocabulary.itemIds.map((item_id, row) => ({
    item_id,
    title: `Item ${item_id}`,
    categories: vocabulary.itemCategories[row].map((category) => vocabulary.categories[category]),
    price: vocabulary.prices[row] ?? null,
  }));
}

function raw(port, request) {
  return new Promise((resolve, reject) => {
    const socket = connect(Number(port), '127.0.0.1', () => socket.write(request));
    let answer = '';
    socket.on('data', (chunk) => (answer += chunk));
    socket.on('end', () => resolve(answer));
    socket.on('error', reject);
  });
}
