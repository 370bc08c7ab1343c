// Fallback lists of segments: fetched with the bundle, asked for by `context`, in Node and in an edge worker.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { cp, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { pathToFileURL } from 'node:url';

import { openFixture } from './lib/fixture.mjs';
import { BUILD, WWW } from './lib/paths.mjs';
import { bundleWorker, startWorkerd } from './lib/workerd.mjs';

/** Rows of the items of Sweden and of phones. */
const SWEDEN = [40, 7, 23];
const PHONES = [12];
let fixture;
let scratch;
let bundle;

before(async () => {
  fixture = await openFixture();
  scratch = await mkdtemp(join(BUILD, 'js', 'segments-'));
  bundle = join(scratch, 'bundle');
  await cp(fixture.bundle, bundle, { recursive: true });
  await Promise.all(Object.entries(withSegments(SWEDEN)).map(([name, bytes]) => writeFile(join(bundle, name), bytes)));
});

after(async () => {
  fixture.engine.free();
  await rm(scratch, { recursive: true, force: true });
});

/** The changed files of the suite's bundle with lists of segments. */
function withSegments(items) {
  const segments = Buffer.from(JSON.stringify({
    format_version: 1,
    segments: [{ items, key: 'country', value: 'se' }, { items: PHONES, key: 'device_class', value: 'phone' }],
  }));
  const sha256 = createHash('sha256').update(segments).digest('hex');
  const entry = `"segments":${JSON.stringify({ bytes: segments.length, path: 'segments.json', sha256 })},`;
  // Roles are in ascending order.
  const manifest = Buffer.from(fixture.files['manifest.json']).toString().replace(/"(trees|vocabulary)":\{"bytes"/, (next) => entry + next);
  return { 'segments.json': new Uint8Array(segments), 'manifest.json': new TextEncoder().encode(manifest) };
}

const idsOf = ({ recommendations }) => recommendations.map(({ itemId }) => itemId);
const idsAt = (rows) => rows.map((row) => fixture.itemIds[row]);

test('a user without a session gets the list of the segment first', async () => {
  const { Recommender } = fixture.sanderling;
  const recommender = await Recommender.load({ baseUrl: pathToFileURL(`${bundle}/`).href, consent: 'none' });
  const list = (options) => idsOf(recommender.recommend({ limit: 5, ...options }));
  const global = list();
  assert.deepEqual(global, idsAt([0, 1, 2, 3, 4]));
  assert.deepEqual(list({ context: { country: 'se', device_class: 'phone' } }), idsAt([...SWEDEN, 0, 1]));
  assert.deepEqual(list({ context: { country: 'no', device_class: 'phone' } }), idsAt([...PHONES, 0, 1, 2, 3]));
  assert.deepEqual(list({ context: { country: 'no' } }), global);
  assert.deepEqual(list({ context: { country: 'se' }, rules: { exclude: idsAt([40]) } }), idsAt([7, 23, 0, 1, 2]));
  const session = [{ itemId: fixture.itemIds[3], kind: 'view', timestamp: 1_700_000_000 }];
  const known = { session, now: 1_700_000_060, seed: 1 };
  assert.deepEqual(list({ ...known, context: { country: 'se' } }), list(known));
  recommender.free();
});

test('lists of items that the bundle does not have are refused', async () => {
  const load = (files) => fixture.sanderling.Recommender.load({ files: { ...fixture.files, ...files }, consent: 'none' });
  await assert.rejects(load(withSegments([fixture.itemIds.length])), { code: 'segments_invalid' });
  await assert.rejects(load({ 'manifest.json': withSegments(SWEDEN)['manifest.json'] }), { code: 'file_missing' });
});

test('the edge worker answers by the context of the request', async () => {
  const template = join(scratch, 'worker');
  await cp(join(WWW, 'edge-worker'), template, { recursive: true });
  await symlink(join(fixture.project, 'node_modules'), join(template, 'node_modules'));
  const modules = await bundleWorker({ entry: join(template, 'src/worker.ts'), project: fixture.project });
  const host = await startWorkerd({ modules, bundle });
  try {
    const ask = async (context) => {
      const body = JSON.stringify({ context, limit: 4 });
      const response = await host.worker.dispatchFetch('http://worker.invalid/recommend', { method: 'POST', body });
      return (await response.json()).recommendations.map(({ item_id: id }) => id);
    };
    assert.deepEqual(await ask({ country: 'se' }), idsAt([...SWEDEN, 0]));
    assert.deepEqual(await ask({ country: 'no' }), idsAt([0, 1, 2, 3]));
  } finally {
    await host.close();
  }
});
