// Which runtime a bundle gets: slim where it can, full where it must, with the same lists.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';

import { findBrowser } from '../../www/tools/browser.mjs';
import { readBundle } from './lib/bundle.mjs';
import { openPage } from './lib/chromium.mjs';
import { openFixture } from './lib/fixture.mjs';
import { openNode } from './lib/node.mjs';
import { installForOperations } from './lib/packed.mjs';
import { BUILD, PROGRAM } from './lib/paths.mjs';
import { bundleWorker, startWorkerd } from './lib/workerd.mjs';

const noBrowser = findBrowser() === undefined && 'no Chromium is installed';
const run = promisify(execFile);
const NOW = 1_700_000_100;
/** A request for what only models decide. */
const request = (itemIds) => ({
  session: itemIds.slice(0, 6).map((itemId, step) => ({ itemId, kind: 'view', timestamp: NOW - 60 + step })), limit: 10, now: NOW, seed: 7,
});
const idsOf = ({ recommendations, faults }) => {
  assert.deepEqual(faults, []);
  return recommendations.map(({ itemId }) => itemId);
};

let fixture;
let foreign;
let entries;

before(async () => {
  fixture = await openFixture();
  foreign = withOtherProducer(fixture.files);
  const entry = (name) => import(pathToFileURL(join(fixture.project, 'node_modules/sanderling/dist', `${name}.js`)).href);
  entries = { slim: await entry('browser-slim'), full: await entry('node-full') };
});

after(() => fixture.engine.free());

/** The same models, as if another program had written them: nothing that the slim runtime takes, as the manifest says. */
function withOtherProducer(files) {
  const [ours, theirs] = ['sanderling', 'somebodies'].map((name) => Buffer.from(name));
  const encoder = Buffer.from(files['encoder.onnx']);
  theirs.copy(encoder, encoder.indexOf(ours));
  const hash = (bytes) => createHash('sha256').update(bytes).digest('hex');
  const manifest = Buffer.from(files['manifest.json']).toString().replace(hash(files['encoder.onnx']), hash(encoder))
    .replace('"shapes":', '"runtime":"full","shapes":');
  return { ...files, 'encoder.onnx': new Uint8Array(encoder), 'manifest.json': new TextEncoder().encode(manifest) };
}

async function listOf(Recommender, options) {
  const recommender = await Recommender.load({ consent: 'none', ...options });
  try {
    return idsOf(recommender.recommend(request(fixture.itemIds)));
  } finally {
    recommender.free();
  }
}

/** Loads with the wasm files of the package counted. */
async function fetchedBy(Recommender, options) {
  const names = [];
  const fetch = async (url) => {
    names.push(url.split('/').at(-1));
    return new Response(await readFile(new URL(url)), { headers: { 'content-type': 'application/wasm' } });
  };
  return { list: await listOf(Recommender, { fetch, ...options }), names };
}

test('a bundle of the trainer runs the same on both runtimes', async () => {
  const { Recommender } = fixture.sanderling;
  const list = await listOf(Recommender, { files: fixture.files });
  assert.equal(list.length, 10);
  assert.deepEqual(await listOf(entries.full.Recommender, { files: fixture.files }), list);
});

test('a bundle of others gets the full runtime, and the same list from it', async () => {
  const { Recommender } = fixture.sanderling;
  const list = await listOf(Recommender, { files: foreign });
  assert.deepEqual(list, await listOf(Recommender, { files: fixture.files }));
  assert.deepEqual(list, await listOf(entries.full.Recommender, { files: foreign }));
});

test('the slim entry fetches the slim engine alone, and says where the other is', async () => {
  const { names, list } = await fetchedBy(entries.slim.Recommender, { files: fixture.files });
  assert.deepEqual(names, ['sanderling_wasm_bg.wasm']);
  assert.equal(list.length, 10);
  await assert.rejects(entries.slim.Recommender.load({ files: foreign, consent: 'none' }), (error) => {
    assert.equal(error.code, 'model_not_slim');
    assert.match(error.details.hint, /sanderling\/full/);
    return true;
  });
});

test('a model that is not good for anything is refused by the full runtime', async () => {
  const broken = { ...foreign, 'encoder.onnx': foreign['encoder.onnx'].slice(0, 1000) };
  const text = new TextDecoder().decode(foreign['manifest.json']);
  const { sha256, bytes } = JSON.parse(text).files.encoder;
  const hash = createHash('sha256').update(broken['encoder.onnx']).digest('hex');
  broken['manifest.json'] = new TextEncoder().encode(text.replace(`"bytes":${bytes},"path":"encoder.onnx","sha256":"${sha256}"`, `"bytes":1000,"path":"encoder.onnx","sha256":"${hash}"`));
  await assert.rejects(fixture.sanderling.Recommender.load({ files: broken, consent: 'none' }), { code: 'model_invalid' });
});

test('encoder and scan alone give what the engine retrieves, and go on where a session goes on', async () => {
  const { engine, itemIds } = fixture;
  const rows = engine.rows(itemIds.slice(0, 6));
  assert.deepEqual([...rows].map((row) => engine.itemId(row)), itemIds.slice(0, 6));
  const [found, scores] = engine.retrieve(rows, 20);
  assert.equal(found.length, 20);
  assert.ok(scores.every((score, at) => at === 0 || score <= scores[at - 1]));
  const project = await installForOperations();
  const node = await openNode({ project, bundle: fixture.bundle });
  const [{ ok: { query } }] = await node.run([{ op: 'encode', item_ids: itemIds.slice(0, 6) }]);
  const [{ ok: { candidates } }] = await node.run([{ op: 'retrieve', query, k: 20 }]);
  assert.deepEqual([...found].map((row) => engine.itemId(row)), candidates.map(({ item_id: id }) => id));
  engine.retrieve(rows.slice(0, 3), 20);
  assert.deepEqual(engine.retrieve(rows, 20), [found, scores]);
  assert.throws(() => engine.rows(['no such item']), { code: 'unknown_item' });
  for (const bad of [new Uint32Array(), Uint32Array.of(4_000_000_000)]) {
    assert.throws(() => engine.retrieve(bad, 20), { code: 'invalid_argument' });
  }
});

test('a bundle of 4-bit item vectors gives natively what it gives in wasm', async () => {
  const scratch = await mkdtemp(join(BUILD, 'js', 'int4-'));
  try {
    const [world, bundle] = [join(scratch, 'world'), join(scratch, 'bundle')];
    await run(PROGRAM, ['synth', '--users', '200', '--days', '15', '--out', world]);
    const budget = ['--recommender', 'sequence', '--max-epochs', '1', '--max-bundle-bytes', '205000'];
    await run(PROGRAM, ['train', world, ...budget, '--out', bundle], { maxBuffer: 1 << 26 });
    const files = await readBundle(bundle);
    assert.equal(JSON.parse(new TextDecoder().decode(files['manifest.json'])).quantisation.item_bits, 4);
    // Exits with 1 when an operation's answer differs.
    const { stdout } = await run(PROGRAM, ['verify', bundle, '--runtime', 'wasm', '--component', join(BUILD, 'sanderling-edge.wasm'), '--json']);
    const { runtime, operations, differences } = JSON.parse(stdout);
    assert.ok(runtime === 'wasm' && operations > 20);
    assert.deepEqual(differences, []);
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
});

test('loading and freeing again and again leaves the memory as it was', async () => {
  const wasm = (name) => join(fixture.project, 'node_modules/sanderling/wasm', name);
  const glue = await import(`${pathToFileURL(wasm('sanderling_wasm.js')).href}?memory`);
  const { memory } = await glue.default({ module_or_path: await readFile(wasm('sanderling_wasm_bg.wasm')) });
  const cycle = () => {
    const files = new glue.WasmFiles();
    for (const [name, bytes] of Object.entries(fixture.files)) files.add(name, bytes);
    const engine = new glue.WasmEngine(files, new Uint8Array(), 0, 0);
    engine.retrieve(engine.rows(fixture.itemIds.slice(0, 6)), 10);
    engine.free();
  };
  for (let times = 0; times < 20; times += 1) cycle();
  const { byteLength } = memory.buffer;
  for (let times = 0; times < 400; times += 1) cycle();
  assert.equal(memory.buffer.byteLength, byteLength);
});

test('an engine is not made of half a key, a short digest or no time', async () => {
  const glue = await import(pathToFileURL(join(fixture.project, 'node_modules/sanderling/wasm/sanderling_wasm.js')).href);
  await glue.default({ module_or_path: await readFile(join(fixture.project, 'node_modules/sanderling/wasm/sanderling_wasm_bg.wasm')) });
  const refused = (make) => assert.throws(make, { code: 'invalid_argument' });
  refused(() => new glue.WasmFiles().add('manifest.json', new Uint8Array(), new Uint8Array(31)));
  const engineOf = (keys, now, leastRollbackIndex) => {
    const files = new glue.WasmFiles();
    for (const [name, bytes] of Object.entries(fixture.files)) files.add(name, bytes);
    return new glue.WasmEngine(files, keys, now, leastRollbackIndex);
  };
  refused(() => engineOf(new Uint8Array(33), 0, 0));
  refused(() => engineOf(new Uint8Array(), undefined, 0));
  refused(() => engineOf(new Uint8Array(), 0, NaN));
  engineOf(new Uint8Array(), 0, -1).free();
});

test('a page fetches the full engine only for a bundle that needs it', { skip: noBrowser }, async () => {
  const opened = await openPage(fixture);
  const fetched = [];
  opened.page.on('request', (sent) => fetched.push(sent.url().split('/').at(-1)));
  const load = (encoder, manifest) => opened.page.evaluate(async ({ encoder, manifest }) => {
    const { Recommender } = await import(new URL('sanderling/dist/browser.js', location.href));
    const { files: named } = await (await fetch('./bundle/manifest.json')).json();
    const files = { 'manifest.json': new Uint8Array(await (await fetch('./bundle/manifest.json')).arrayBuffer()) };
    for (const { path } of Object.values(named)) files[path] = new Uint8Array(await (await fetch(`./bundle/${path}`)).arrayBuffer());
    if (encoder) Object.assign(files, { 'encoder.onnx': new Uint8Array(encoder), 'manifest.json': new Uint8Array(manifest) });
    const recommender = await Recommender.load({ files, consent: 'none' });
    const { length } = recommender.recommend({ limit: 5 }).recommendations;
    recommender.free();
    return length;
  }, { encoder, manifest });
  try {
    assert.equal(await load(), 5);
    assert.ok(fetched.some((name) => /^sanderling_(quads|pairs|wasm|scalar)_bg\.wasm$/.test(name)) && !fetched.some((name) => name.includes('full')));
    assert.equal(await load([...foreign['encoder.onnx']], [...foreign['manifest.json']]), 5);
    assert.ok(fetched.includes('sanderling_full_bg.wasm'));
  } finally {
    await opened.close();
  }
});

test('in workerd the full runtime is an entry of its own', async () => {
  const source = (entry) => `
    import { Recommender } from '${entry}';
    export default {
      async fetch(request, env) {
        const names = await request.json();
        const file = async (name) => [name, new Uint8Array(await (await env.ASSETS.fetch('http://assets.invalid/bundle/' + name)).arrayBuffer())];
        try {
          const recommender = await Recommender.load({ files: Object.fromEntries(await Promise.all(names.map(file))), consent: 'none' });
          return Response.json(recommender.recommend({ limit: 5 }).recommendations.length);
        } catch ({ code }) {
          return Response.json(code);
        }
      },
    };
  `;
  const outcome = async (entry) => {
    const modules = await bundleWorker({ contents: source(entry), project: fixture.project });
    const { worker, close } = await startWorkerd({ modules, assets: foreign });
    try {
      const response = await worker.dispatchFetch('http://worker.invalid/', { method: 'POST', body: JSON.stringify(Object.keys(foreign)) });
      return await response.json();
    } finally {
      await close();
    }
  };
  assert.equal(await outcome('sanderling'), 'model_not_slim');
  assert.equal(await outcome('sanderling/full'), 5);
});
