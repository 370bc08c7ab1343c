import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { cp, mkdtemp, readFile, rm, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';

import { openFixture } from './lib/fixture.mjs';
import { importFrom } from './lib/node.mjs';
import { BUILD, toolPath, WWW } from './lib/paths.mjs';
import { bundleWorker, startWorkerd } from './lib/workerd.mjs';

const run = promisify(execFile);

let fixture;
let template;
let modules;
let host;

before(async () => {
  fixture = await openFixture();
  // The template is used as a deployer would: out of the tree, with the packed package installed.
  template = await mkdtemp(join(BUILD, 'js', 'edge-worker-'));
  await cp(join(WWW, 'edge-worker'), template, { recursive: true });
  await symlink(join(fixture.project, 'node_modules'), join(template, 'node_modules'));
  modules = await bundleWorker({ entry: join(template, 'src/worker.ts'), project: fixture.project });
  host = await startWorkerd({ modules, bundle: fixture.bundle });
});

after(async () => {
  fixture.engine.free();
  await host.close();
  await rm(template, { recursive: true, force: true });
});

const ask = (path, init) => host.worker.dispatchFetch(new URL(path, 'http://worker.invalid/'), init);
const recommend = (body) => ask('/recommend', { method: 'POST', body: typeof body === 'string' ? body : JSON.stringify(body) });

async function assertProblem(response, status, code) {
  const { ERROR_CODES } = await importFrom(fixture.project, 'error-codes');
  assert.equal(response.status, status);
  assert.equal(response.headers.get('content-type'), 'application/problem+json');
  assert.equal(response.headers.get('cache-control'), 'no-store');
  const problem = await response.json();
  assert.deepEqual(
    [problem.type, problem.title, problem.status, problem.code],
    [`urn:sanderling:problem:${code}`, ERROR_CODES[code], status, code],
  );
  assert.ok(problem.detail.length > 0);
  return problem;
}

test('the template type-checks against the packed package', async () => {
  await run(process.execPath, [toolPath('typescript/bin/tsc'), '-p', template]).catch((error) => assert.fail(error.stdout || error.message));
});

test('its configuration names the date and the files that the tests use', async () => {
  const config = await readFile(join(template, 'wrangler.jsonc'), 'utf8');
  assert.match(config, /"compatibility_date": "2026-04-01"/);
  assert.match(config, /"run_worker_first": true/);
});

test('POST /recommend answers the session in the body as the package does in Node', async () => {
  const session = fixture.itemIds.slice(0, 4).map((item_id, step) => ({ item_id, kind: 'view', timestamp: 1_700_000_000 + step }));
  const response = await recommend({ session, limit: 5, rules: { category_cap: 3 }, context: { page: 'home' }, now: 1_700_000_100, seed: 1 });
  assert.equal(response.status, 200);
  assert.equal(response.headers.get('cache-control'), 'no-store');
  const { recommendations, faults } = await response.json();
  assert.deepEqual(faults, []);
  assert.deepEqual(Object.keys(recommendations[0]).sort(), ['item_id', 'position', 'reasons', 'score', 'source']);
  const node = await fixture.load({ consent: 'none' });
  const expected = node.recommend({
    session: session.map(({ item_id, kind, timestamp }) => ({ itemId: item_id, kind, timestamp })),
    limit: 5, rules: { categoryCap: 3 }, now: 1_700_000_100, seed: 1,
  });
  assert.deepEqual(recommendations.map(({ item_id }) => item_id), expected.recommendations.map(({ itemId }) => itemId));
});

test('a request without a session is served the fallback, with its fault', async () => {
  const { recommendations, faults } = await (await recommend({})).json();
  assert.equal(recommendations.length, 10);
  assert.deepEqual(faults.map(({ code }) => code), ['empty_session']);
});

test('interactions that no bundle can know do not refuse the request', async () => {
  const session = [['', 'view'], ['x'.repeat(600), 'view'], [fixture.itemIds[0], '']].map(([item_id, kind]) => ({ item_id, kind, timestamp: 1 }));
  const response = await recommend({ session });
  assert.equal(response.status, 200);
  const { recommendations, faults } = await response.json();
  assert.equal(recommendations.length, 10);
  assert.deepEqual(faults.map(({ code }) => code), ['unknown_items', 'empty_session']);
});

test('one visitor sees nothing of another', async () => {
  const [itemId] = fixture.itemIds;
  await recommend({ session: [{ item_id: itemId, kind: 'view', timestamp: 1 }] });
  const { faults } = await (await recommend({ session: [] })).json();
  assert.deepEqual(faults.map(({ code }) => code), ['empty_session']);
});

test('a cold isolate answers many first requests at once', async () => {
  const cold = await startWorkerd({ modules, bundle: fixture.bundle });
  const answers = await Promise.all(Array.from({ length: 8 }, () => cold.worker.dispatchFetch('http://worker.invalid/recommend', { method: 'POST', body: '{}' })));
  assert.deepEqual(answers.map(({ status }) => status), Array.from({ length: 8 }, () => 200));
  await Promise.all(answers.map((answer) => answer.text()));
  await cold.close();
});

test('GET /healthz names the bundle', async () => {
  const response = await ask('/healthz');
  assert.equal(response.status, 200);
  const { status, bundle } = await response.json();
  assert.equal(status, 'ok');
  assert.match(bundle.sha256, /^[0-9a-f]{64}$/);
});

test('bodies that are not requests are refused with the reason', async () => {
  const bodies = [
    '', '{', 'null', '[]', '7', { unknown: 1 }, { limit: -1 }, { limit: 1.5 }, { limit: '3' }, { session: {} }, { session: [{}] },
    { session: [{ item_id: 'a', kind: 'view', timestamp: 0, user_id: 'u' }] }, { rules: { boost: 1 } }, { rules: { filter: { colour: 'red' } } }, { now: 1e300 },
  ];
  for (const body of bodies) await assertProblem(await recommend(body), 400, 'invalid_argument');
});

test('a body over the limit is refused', async () => {
  const problem = await assertProblem(await recommend(JSON.stringify({ context: { a: 'x'.repeat(70_000) } })), 413, 'limit_exceeded');
  assert.equal(problem.expected, 'at most 65536 bytes');
});

test('other addresses and methods are refused', async () => {
  await assertProblem(await ask('/'), 404, 'not_found');
  await assertProblem(await ask('/bundle/items.bin'), 404, 'not_found');
  const response = await ask('/recommend');
  assert.equal(response.headers.get('allow'), 'POST, OPTIONS');
  await assertProblem(response, 405, 'invalid_argument');
  await assertProblem(await ask('/healthz', { method: 'DELETE' }), 405, 'invalid_argument');
});

test('a bundle that cannot be loaded is a 503 with its own code, and is tried again', async () => {
  const assets = { ...fixture.files };
  const { 'items.bin': items } = assets;
  delete assets['items.bin'];
  const broken = await startWorkerd({ modules, assets });
  const askBroken = () => broken.worker.dispatchFetch('http://worker.invalid/recommend', { method: 'POST', body: '{}' });
  const response = await askBroken();
  assert.equal(response.headers.get('retry-after'), '5');
  await assertProblem(response, 503, 'file_missing');
  assets['items.bin'] = items;
  const second = await askBroken();
  assert.equal(second.status, 200, await second.text());
  await broken.close();
});

test('browsers may call from the configured origin only', async () => {
  const origin = 'https://shop.example';
  const open = await startWorkerd({ modules, bundle: fixture.bundle, bindings: { ALLOWED_ORIGIN: origin } });
  const from = (other, method = 'POST') =>
    open.worker.dispatchFetch('http://worker.invalid/recommend', { method, headers: { origin: other }, ...(method === 'POST' ? { body: '{}' } : {}) });
  for (const [other, method, expected] of [[origin, 'POST', origin], [origin, 'OPTIONS', origin], ['https://else.example', 'POST', null]]) {
    const response = await from(other, method);
    assert.equal(response.headers.get('access-control-allow-origin'), expected);
    await response.text();
  }
  await open.close();
});
