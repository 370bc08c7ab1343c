import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { promisify } from 'node:util';

import { mutated } from './lib/execute.mjs';
import { openFixture } from './lib/fixture.mjs';
import { importFrom } from './lib/node.mjs';
import { REPO } from './lib/paths.mjs';

let fixture;
let files;
let engineFiles;

before(async () => {
  fixture = await openFixture();
  const manifest = JSON.parse(new TextDecoder().decode(fixture.files['manifest.json']));
  files = Object.values(manifest.files);
  // The card is for people and the content for adding items: verified where they are given, and may be left out.
  engineFiles = Object.entries(manifest.files).flatMap(([role, { path }]) => (['card', 'content'].includes(role) ? [] : [path]));
});

after(() => fixture.engine.free());

const load = (files, options = {}) => fixture.sanderling.Recommender.load({ files, consent: 'none', ...options });

test('the codes and their sentences are those of the Rust crates', async () => {
  const source = await readFile(join(REPO, 'crates/sanderling-types/src/error.rs'), 'utf8');
  const declared = [...source.slice(source.indexOf('codes! {')).matchAll(/\w+ = "(\w+)", "([^"]*)";/g)];
  assert.ok(declared.length > 30);
  const { ERROR_CODES } = await importFrom(fixture.project, 'error-codes');
  assert.deepEqual(Object.entries(ERROR_CODES), declared.map(([, code, text]) => [code, text]));
  const { isErrorCode } = await importFrom(fixture.project, 'errors');
  assert.ok(declared.every(([, code]) => isErrorCode(code)) && !isErrorCode('no_such_code') && !isErrorCode(''));
});

test('a flipped byte in any file is a typed error', async () => {
  for (const { path: file } of files) {
    const { length } = fixture.files[file];
    for (const flip_byte of [0, length >> 1, length - 1]) {
      await assert.rejects(load(mutated(fixture.files, { file, flip_byte })), (error) => {
        assert.ok(error instanceof fixture.sanderling.RecommenderError, String(error));
        assert.equal(error.code, 'hash_mismatch', `${file} byte ${flip_byte}: ${error.message}`);
        assert.ok(error.message.includes(file));
        assert.match(error.details.expected, /[0-9a-f]{64}/);
        return true;
      });
    }
  }
});

test('a large file is hashed in pieces', async () => {
  const sha256 = (bytes) => createHash('sha256').update(bytes).digest();
  const baseline = new Uint8Array(600_000).fill(32);
  baseline.set(fixture.files['baseline.json']);
  const pieces = [0, 262_144, 524_288].map((at) => sha256(baseline.subarray(at, at + 262_144)));
  const entry = { bytes: baseline.length, path: 'baseline.json', pieces_sha256: sha256(Buffer.concat(pieces)).toString('hex'), sha256: sha256(baseline).toString('hex') };
  const manifest = JSON.parse(Buffer.from(fixture.files['manifest.json']));
  const loadWith = (changes, files) => {
    const changed = { ...manifest, files: { ...manifest.files, baseline: { ...entry, ...changes } } };
    const served = { ...fixture.files, 'baseline.json': baseline, 'manifest.json': Buffer.from(JSON.stringify(changed)), ...files };
    const fetch = async (url) => new Response(served[new URL(url).pathname.slice(1)]);
    return fixture.sanderling.Recommender.load({ baseUrl: 'https://shop.example/', fetch, consent: 'none' });
  };
  (await loadWith({})).free();
  const other = sha256('other').toString('hex');
  await assert.rejects(loadWith({ pieces_sha256: other }), { code: 'hash_mismatch' });
  await assert.rejects(loadWith({ pieces_sha256: undefined, sha256: other }), { code: 'hash_mismatch' });
  const damaged = baseline.slice();
  damaged[599_999] = 10;
  await assert.rejects(loadWith({}, { 'baseline.json': damaged }), { code: 'hash_mismatch' });
  // Files of a caller are hashed by the engine, in one piece.
  const files = { ...fixture.files, 'baseline.json': baseline, 'manifest.json': Buffer.from(JSON.stringify({ ...manifest, files: { ...manifest.files, baseline: entry } })) };
  (await load(files)).free();
});

test('a truncated, an empty and an overlong file are typed errors', async () => {
  for (const file of engineFiles) {
    for (const truncate_to of [0, fixture.files[file].length - 1]) {
      await assert.rejects(load(mutated(fixture.files, { file, truncate_to })), { name: 'RecommenderError', code: 'file_truncated' });
    }
    const longer = new Uint8Array([...fixture.files[file], 0]);
    await assert.rejects(load({ ...fixture.files, [file]: longer }), { code: 'file_truncated' });
    await assert.rejects(load(mutated(fixture.files, { file, remove: true })), { code: 'file_missing' });
  }
});

test('a manifest of another version, and one that is no manifest, are typed errors', async () => {
  for (const version of [0, 2, 99]) {
    await assert.rejects(load(mutated(fixture.files, { replace_format_version: version })), { code: 'unsupported_format_version' });
  }
  for (const text of ['', '{', 'null', '[]', '{"format_version":1}', '<html>']) {
    const files = { ...fixture.files, 'manifest.json': new TextEncoder().encode(text) };
    await assert.rejects(load(files), (error) => ['manifest_invalid', 'unsupported_format_version'].includes(error.code));
  }
  await assert.rejects(load(mutated(fixture.files, { remove: true })), { code: 'file_missing' });
});

test('a key without a signature is a typed error', async () => {
  const { 'manifest.sig': _, ...unsigned } = fixture.files;
  await assert.rejects(load(unsigned, { publicKey: '00'.repeat(32) }), { code: 'signature_missing' });
  await assert.rejects(load(unsigned, { publicKey: 'not a key' }), { code: 'invalid_argument' });
});

test('load refuses arguments that cannot be meant', async () => {
  const { Recommender } = fixture.sanderling;
  for (const options of [{}, { baseUrl: 'x', files: {} }, null, 7, { files: { 'manifest.json': 'text' } }, { baseUrl: 'http://[' }]) {
    await assert.rejects(Recommender.load(options), { name: 'RecommenderError', code: 'invalid_argument' });
  }
});

test('a folder that is not there, a stopped load and a bundle over the limit are typed errors', async () => {
  const { Recommender } = fixture.sanderling;
  const load = (options) => Recommender.load({ consent: 'none', ...options });
  await assert.rejects(load({ baseUrl: '/no/such/folder' }), { code: 'file_missing' });
  await assert.rejects(load({ baseUrl: 'http://127.0.0.1:9/bundle/' }), { code: 'io' });
  await assert.rejects(load({ baseUrl: fixture.bundle, maxBundleBytes: 10 }), { code: 'limit_exceeded' });
  const server = await startFiles(() => new Promise(() => {}));
  await assert.rejects(load({ baseUrl: server.url, signal: AbortSignal.timeout(50) }), { code: 'io' });
  await server.close();
});

test('an option that there is not, and a key that is not there, open nothing unsigned', async () => {
  await assert.rejects(load(fixture.files, { publickey: '0'.repeat(64) }), ({ code, details }) => {
    assert.deepEqual([code, details.found], ['invalid_argument', 'publickey']);
    assert.match(details.expected, /publicKey/);
    return true;
  });
  await assert.rejects(load(fixture.files, { publicKey: undefined }), { code: 'invalid_argument' });
  (await load(fixture.files, { collectorUrl: undefined, maxSessionLength: undefined })).free();
});

test('a host that answers every address with its page has no bundle there', async () => {
  const page = () => new Response('<!doctype html><title>shop</title>', { headers: { 'content-type': 'text/html; charset=utf-8' } });
  await assert.rejects(fixture.sanderling.Recommender.load({ baseUrl: 'https://shop.example/models/', consent: 'none', fetch: async () => page() }), {
    code: 'file_missing',
    message: 'cannot fetch manifest.json: found an HTML page at https://shop.example/models/manifest.json; baseUrl is the folder of the bundle',
  });
});

test('a message has the evidence, as it has on other hosts', async () => {
  const { RecommenderError } = fixture.sanderling;
  const error = new RecommenderError('limit_exceeded', 'too much', { expected: 'at most 1', found: '2', hint: 'take less' });
  assert.equal(error.message, 'too much: expected at most 1, found 2; take less');
  assert.deepEqual(error.toJSON(), { code: 'limit_exceeded', message: 'too much', expected: 'at most 1', found: '2', hint: 'take less' });
  assert.match(String(error.stack), /too much: expected at most 1, found 2; take less/);
  assert.equal(new RecommenderError('io', 'away').message, 'away');
});

test('what the engine needs is read over HTTP with content-addressed URLs, in one round after the manifest', async () => {
  const server = await startFiles((name) => fixture.files[name]);
  const recommender = await fixture.sanderling.Recommender.load({ baseUrl: server.url, consent: 'none' });
  assert.equal(server.requests[0], '/manifest.json');
  const needed = files.filter(({ path }) => engineFiles.includes(path));
  const expected = needed.map(({ path, sha256 }) => `/${path}?sha256=${sha256.slice(0, 16)}`);
  assert.deepEqual(server.requests.slice(1).toSorted(), expected.toSorted());
  recommender.free();
  await server.close();
});

test('a damaged copy on the way is fetched once more, and refused when it stays damaged', async () => {
  let damaged = 1;
  const answer = (name) => {
    if (name !== 'items.bin' || damaged <= 0) return fixture.files[name];
    damaged -= 1;
    return mutated(fixture.files, { file: 'items.bin', flip_byte: 9 })['items.bin'];
  };
  const server = await startFiles(answer);
  const recommender = await fixture.sanderling.Recommender.load({ baseUrl: server.url, consent: 'none' });
  assert.equal(recommender.recommend({ limit: 3 }).recommendations.length, 3);
  recommender.free();
  damaged = Infinity;
  await assert.rejects(fixture.sanderling.Recommender.load({ baseUrl: server.url, consent: 'none' }), { code: 'hash_mismatch' });
  await server.close();
});

test('a length is not believed of another origin, whose answer may have been compressed', async () => {
  const server = await startFiles((name) => fixture.files[name]);
  let numChunks = 0;
  const endless = () => new ReadableStream({
    pull(controller) {
      numChunks += 1;
      if (numChunks > 1000) controller.close();
      else controller.enqueue(new Uint8Array(1 << 16));
    },
  });
  const fromElsewhere = async (url, init) => {
    if (!url.includes('items.bin')) return fetch(url, init);
    return Object.defineProperty(new Response(endless(), { headers: { 'content-length': '10' } }), 'type', { value: 'cors' });
  };
  const load = fixture.sanderling.Recommender.load({ baseUrl: server.url, consent: 'none', fetch: fromElsewhere });
  await assert.rejects(load, { code: 'file_truncated' });
  assert.ok(numChunks < 100, `${numChunks} chunks were read`);
  await server.close();
});

test('a load that fails leaves the storage of its caller open', async () => {
  let numClosed = 0;
  const storage = { entries: async () => ({}), close: () => { numClosed += 1; } };
  await assert.rejects(fixture.sanderling.Recommender.load({ files: {}, consent: 'device', storage }), { code: 'file_missing' });
  await assert.rejects(fixture.sanderling.Recommender.load({ files: fixture.files, personalise: 1, storage }), { code: 'invalid_argument' });
  await new Promise((done) => setTimeout(done, 10));
  assert.equal(numClosed, 0);
});

test('a body that never ends is cut at the length that the manifest states', async () => {
  const server = await startFiles((name, response) => {
    if (name !== 'items.bin') return fixture.files[name];
    const more = () => response.write(Buffer.alloc(1 << 16), (error) => error || more());
    more();
    return undefined;
  });
  await assert.rejects(fixture.sanderling.Recommender.load({ baseUrl: server.url, consent: 'none' }), { code: 'file_truncated' });
  await server.close();
});

test('a damaged file on disk is a typed error too', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'sanderling-damaged-'));
  await cp(fixture.bundle, folder, { recursive: true });
  const load = () => fixture.sanderling.Recommender.load(folder);
  const encoder = join(folder, 'encoder.onnx');
  await writeFile(encoder, mutated(fixture.files, { file: 'encoder.onnx', flip_byte: 40 })['encoder.onnx']);
  await assert.rejects(load(), { code: 'hash_mismatch' });
  await writeFile(encoder, fixture.files['encoder.onnx'].subarray(1));
  await assert.rejects(load(), { code: 'file_truncated' });
  await writeFile(encoder, Buffer.concat([fixture.files['encoder.onnx'], Buffer.alloc(1 << 20)]));
  await assert.rejects(load(), ({ code, details }) => code === 'file_truncated' && details.found === `at least ${fixture.files['encoder.onnx'].length + 1} bytes`);
  await rm(encoder);
  await assert.rejects(load(), { code: 'file_missing' });
  await mkdir(encoder);
  await assert.rejects(load(), { code: 'io' });
  await assert.rejects(fixture.sanderling.Recommender.load({ baseUrl: folder, signal: AbortSignal.abort() }), { code: 'cancelled' });
  await rm(folder, { recursive: true });
});

test('a bundle on disk is opened without the fetch of Node, which takes longer to load', async () => {
  const script = `
    import { Recommender } from ${JSON.stringify(pathToFileURL(join(REPO, 'www/pkg/dist/node.js')).href)};
    const recommender = await Recommender.load({ baseUrl: ${JSON.stringify(fixture.bundle)}, consent: 'none' });
    console.log(recommender.recommend({ limit: 3 }).recommendations.length, process.moduleLoadList.filter((name) => /undici\\/undici/.test(name)).length);`;
  const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '--eval', script]);
  assert.equal(stdout, '3 0\n');
});

/** A static server; `answer` gives the bytes of a name, or answers by itself. */
async function startFiles(answer) {
  const requests = [];
  const server = createServer(async (request, response) => {
    requests.push(request.url);
    const bytes = await answer(request.url.slice(1).split('?')[0], response);
    if (bytes !== undefined) response.end(bytes);
    else if (!response.writableNeedDrain) setTimeout(() => response.writableLength === 0 && !response.headersSent && response.writeHead(404).end(), 50);
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  const close = () =>
    new Promise((resolve) => {
      server.close(resolve);
      server.closeAllConnections();
    });
  return { url: `http://127.0.0.1:${server.address().port}/`, requests, close };
}
