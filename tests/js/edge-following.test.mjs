// The edge worker goes on with the next bundle: of a folder, of a channel, and past those that are none.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { rm } from 'node:fs/promises';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { setTimeout } from 'node:timers/promises';
import { promisify } from 'node:util';

import { readBundle, signBundle } from './lib/bundle.mjs';
import { openTemplate } from './lib/edge-worker.mjs';
import { PROGRAM } from './lib/paths.mjs';
import { bundleWorker } from './lib/workerd.mjs';

const run = promisify(execFile);

let edge;

before(async () => {
  edge = await openTemplate();
});

after(() => edge.close());

/** A server whose files change. */
async function serveFiles(files) {
  const asked = [];
  const server = createServer((request, response) => {
    asked.push(request.url.split('?')[0]);
    const bytes = files[asked.at(-1)];
    response.writeHead(bytes === undefined ? 404 : 200).end(bytes);
  });
  await new Promise((listening) => server.listen(0, '127.0.0.1', listening));
  const close = () => new Promise((closed) => {
    server.close(closed);
    server.closeAllConnections();
  });
  return edge.closes({ asked, url: `http://127.0.0.1:${server.address().port}`, close });
}

/** A worker that looks at its bundle with every request, and what it answers. */
async function startFollowing(options) {
  const following = await edge.start({ modules: edge.modules, ...options, bindings: { CHECK_SECONDS: '0.001', ...options.bindings } });
  const send = async (path, init) => (await following.worker.dispatchFetch(`http://worker.invalid${path}`, init)).json();
  const list = () => send('/recommend', { method: 'POST', body: '{"limit":3}' });
  const served = async () => (await send('/healthz')).bundle;
  /** Asks, several at a time, until that is served; there is always a list of a whole engine. */
  const goesOnWith = async (wanted) => {
    const isServed = async () => Object.entries(wanted).every(([key, value]) => value === bundle[key]);
    let bundle = await served();
    for (let tries = 0; tries < 300 && !(await isServed()); tries += 1) {
      for (const { recommendations, faults } of await Promise.all([list(), list(), list()])) {
        assert.deepEqual([recommendations.length, faults.map(({ code }) => code)], [3, ['empty_session']]);
      }
      await setTimeout(20);
      bundle = await served();
    }
    assert.ok(await isServed(), JSON.stringify(bundle));
  };
  const staysWith = async (wanted) => {
    for (let looks = 0; looks < 5; looks += 1) {
      await goesOnWith(wanted);
      await setTimeout(40);
    }
  };
  return { send, list, served, goesOnWith, staysWith, worker: following.worker, close: following.close };
}

/** The files of the bundle with another version, under a folder. */
const withVersion = (version, folder = '') => {
  const manifest = { ...JSON.parse(new TextDecoder().decode(edge.fixture.files['manifest.json'])), version };
  const files = { ...edge.fixture.files, 'manifest.json': new TextEncoder().encode(JSON.stringify(manifest)) };
  return Object.fromEntries(Object.entries(files).map(([name, bytes]) => [`${folder}${name}`, bytes]));
};

/** The template, with `/memory`, which tells the length of the engine's memory, and with the isolate's `fetch` as `wrap` makes it of its own. */
const instrumented = async (wrap = '(fetch) => fetch') => bundleWorker({
  project: edge.fixture.project,
  contents: `
    import worker from ${JSON.stringify(join(edge.template, 'src/worker.ts'))};
    import * as bindings from ${JSON.stringify(join(edge.fixture.project, 'node_modules/sanderling/wasm/sanderling_wasm.js'))};
    const memory = async () => (await bindings.default()).memory.buffer;
    globalThis.fetch = (${wrap})(globalThis.fetch.bind(globalThis), memory);
    export default {
      async fetch(request, env, context) {
        if (new URL(request.url).pathname === '/memory') return Response.json((await memory()).byteLength);
        return worker.fetch(request, env, context);
      },
    };
  `,
});

test('the next bundle of a folder takes the place of the one before, and what is no bundle does not', async () => {
  const files = withVersion(1, '/bundle/');
  const server = await serveFiles(files);
  const following = await startFollowing({ modules: await instrumented(), bindings: { BUNDLE_URL: `${server.url}/bundle` } });
  const still = await startFollowing({ bindings: { BUNDLE_URL: `${server.url}/bundle`, CHECK_SECONDS: '0' } });
  assert.equal((await still.served()).version, 1);
  server.asked.length = 0;
  await following.staysWith({ version: 1 });
  const numFetched = () => server.asked.filter((path) => path === '/bundle/items.bin').length;
  assert.equal(numFetched(), 1, 'a look is at the manifest alone');
  Object.assign(files, withVersion(2, '/bundle/'));
  await following.goesOnWith({ version: 2 });

  const { '/bundle/items.bin': items } = files;
  Object.assign(files, withVersion(3, '/bundle/'), { '/bundle/items.bin': items.subarray(1) });
  await following.staysWith({ version: 2 });
  const numTries = numFetched();
  await following.staysWith({ version: 2 });
  assert.ok(numFetched() <= numTries + 6, 'ever less often');
  // The same once more, whole.
  files['/bundle/items.bin'] = items;
  await following.goesOnWith({ version: 3 });

  const memory = [];
  for (let version = 4; version < 14; version += 1) {
    Object.assign(files, withVersion(version, '/bundle/'));
    await following.goesOnWith({ version });
    memory.push(await following.send('/memory'));
  }
  // Of ten bundles that stay there would be three times as much; on a slow machine some are there for a moment longer.
  assert.ok(memory.at(-1) - memory[1] <= 8 * 65_536, `those before are given back: ${memory}`);
  await still.staysWith({ version: 1 });
  await Promise.all([following.close(), still.close(), server.close()]);
});

test('bundles that stop the engine when they are opened are opened once each, and the one after them is served', async () => {
  const files = withVersion(1, '/bundle/');
  const server = await serveFiles(files);
  // Whatever comes with the second and the third manifest finds the engine's memory in disorder.
  const wrap = `(fetch, memory) => async (url, init) => {
    const response = await fetch(url, init);
    if (!url.includes('items.bin') || !/"version":[23]}/.test(await (await fetch('${server.url}/bundle/manifest.json')).text())) return response;
    new Uint8Array(await memory()).fill(0xff);
    return response;
  }`;
  const following = await startFollowing({ modules: await instrumented(wrap), bindings: { BUNDLE_URL: `${server.url}/bundle/` } });
  const isStopped = async () => (await following.list()).faults.some(({ code }) => code === 'engine_failed');
  await following.goesOnWith({ version: 1 });
  // A third failure would be the isolate's last.
  for (const version of [2, 3]) {
    Object.assign(files, withVersion(version, '/bundle/'));
    const { length } = server.asked;
    const isFetched = () => server.asked.indexOf('/bundle/items.bin', length) >= 0;
    // Every list makes the worker look.
    for (let tries = 0; tries < 200 && !((await isStopped()) && isFetched()); tries += 1) await setTimeout(20);
    assert.ok((await isStopped()) && isFetched(), `version ${version} stops the engine`);
    // A look that finds nothing in between makes nobody forget.
    const { '/bundle/manifest.json': manifest } = files;
    delete files['/bundle/manifest.json'];
    await Promise.all([following.list(), setTimeout(60)]);
    files['/bundle/manifest.json'] = manifest;
    for (let tries = 0; tries < 20; tries += 1) {
      assert.equal((await following.list()).recommendations.length, 3, 'there is always a list');
      await setTimeout(20);
    }
    assert.equal(server.asked.filter((path, at) => at >= length && path === '/bundle/items.bin').length, 1, `version ${version} is opened once`);
  }
  Object.assign(files, withVersion(4, '/bundle/'));
  for (let tries = 0; tries < 200 && (await isStopped()); tries += 1) await setTimeout(20);
  await following.staysWith({ version: 4 });
  await Promise.all([following.close(), server.close()]);
});

test('in a channel the bundle before comes back after one that stops the engine', async () => {
  const files = { ...withVersion(1, '/live/1/'), ...withVersion(2, '/live/2/') };
  const name = (version) => {
    const hash = createHash('sha256').update(files[`/live/${version}/manifest.json`]).digest('hex');
    const champion = { bundle_sha256: hash, path: `${version}/`, since: 1, version };
    files['/live/channel.json'] = JSON.stringify({ canary: null, champion, format_version: 1, name: 'shop' });
  };
  const server = await serveFiles(files);
  const wrap = `(fetch, memory) => async (url, init) => {
    const response = await fetch(url, init);
    if (url.includes('/2/items.bin')) new Uint8Array(await memory()).fill(0xff);
    return response;
  }`;
  name(1);
  const following = await startFollowing({ modules: await instrumented(wrap), bindings: { BUNDLE_URL: `${server.url}/live/channel.json` } });
  await following.goesOnWith({ version: 1 });
  name(2);
  const isStopped = async () => (await following.list()).faults.some(({ code }) => code === 'engine_failed');
  for (let tries = 0; tries < 200 && !server.asked.includes('/live/2/items.bin'); tries += 1) {
    await following.list();
    await setTimeout(20);
  }
  await setTimeout(100);
  for (let tries = 0; tries < 200 && (await isStopped()); tries += 1) await setTimeout(20);
  await following.staysWith({ version: 1 });
  assert.equal(server.asked.filter((path) => path === '/live/2/items.bin').length, 1, 'it is not opened again');
  await Promise.all([following.close(), server.close()]);
});

test('the champion of a channel is served, whatever its canary is, and none that was taken back', async () => {
  const { scratch, folder, publicKey } = await signBundle(edge.fixture.bundle);
  const following = await startFollowing({ r2Buckets: ['BUNDLES'], bindings: { BUNDLE_URL: 'live/channel.json', PUBLIC_KEY: publicKey } });
  const bucket = await following.worker.getR2Bucket('BUNDLES');
  const release = async (version) => {
    await run(PROGRAM, ['sign', folder, '--key', join(scratch, 'key'), '--rollback-index', String(version)]);
    const files = await readBundle(folder);
    for (const [name, bytes] of Object.entries(files)) await bucket.put(`live/${version}/${name}`, bytes);
    return { bundle_sha256: createHash('sha256').update(files['manifest.json']).digest('hex'), path: `${version}/`, since: 1, version };
  };
  const name = (champion, canary = null) => bucket.put('live/channel.json', JSON.stringify({ canary, champion, format_version: 1, name: 'shop' }));
  const [first, second] = [await release(1), await release(2)];
  await name(first, { release: second, share: 0.5 });
  await following.staysWith({ sha256: first.bundle_sha256 });
  await name(second);
  await following.staysWith({ sha256: second.bundle_sha256 });
  await name(first);
  await following.staysWith({ sha256: second.bundle_sha256 });
  await name({ ...second, bundle_sha256: '0'.repeat(64) });
  await following.staysWith({ sha256: second.bundle_sha256 });
  await following.close();
  await rm(scratch, { recursive: true, force: true });
});
