import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { createServer } from 'node:http';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { setTimeout } from 'node:timers/promises';
import { promisify } from 'node:util';

import { openTemplate } from './lib/edge-worker.mjs';
import { importFrom } from './lib/node.mjs';
import { toolPath } from './lib/paths.mjs';
import { bundleWorker } from './lib/workerd.mjs';

const run = promisify(execFile);

let edge;
let fixture;
let template;
let modules;
let start;
let host;

before(async () => {
  edge = await openTemplate();
  ({ fixture, template, modules, start } = edge);
  host = await start({ modules, bundle: fixture.bundle });
});

after(() => edge.close());

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

test('visitors of one moment have chances of their own', async () => {
  const session = fixture.itemIds.slice(0, 3).map((item_id) => ({ item_id, kind: 'view', timestamp: 1_700_000_000 }));
  const listed = async (more) => {
    const { recommendations } = await (await recommend({ session, now: 1_700_000_100, rules: { exploration: 0.5 }, ...more })).json();
    return recommendations.map(({ item_id: id, propensity }) => `${id} ${propensity}`).join();
  };
  const lists = await Promise.all(Array.from({ length: 8 }, () => listed({})));
  assert.ok(new Set(lists).size > 4, `${new Set(lists).size} different lists`);
  assert.equal(await listed({ seed: 5 }), await listed({ seed: 5 }));
});

test('one visitor sees nothing of another', async () => {
  const [itemId] = fixture.itemIds;
  await recommend({ session: [{ item_id: itemId, kind: 'view', timestamp: 1 }] });
  const { faults } = await (await recommend({ session: [] })).json();
  assert.deepEqual(faults.map(({ code }) => code), ['empty_session']);
});

test('a cold isolate answers many first requests at once', async () => {
  const cold = await start({ modules, bundle: fixture.bundle });
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
  const broken = await start({ modules, assets });
  const askBroken = () => broken.worker.dispatchFetch('http://worker.invalid/recommend', { method: 'POST', body: '{}' });
  const response = await askBroken();
  assert.equal(response.headers.get('retry-after'), '5');
  const { detail, found } = await assertProblem(response, 503, 'file_missing');
  assert.deepEqual([detail, found], ['no bundle can be loaded', undefined], 'where it is, is nobody\'s business');
  assets['items.bin'] = items;
  // Those that come soon after it are not worth another download.
  await assertProblem(await askBroken(), 503, 'file_missing');
  await setTimeout(5_100);
  const second = await askBroken();
  assert.equal(second.status, 200, await second.text());
  await broken.close();
});

test('a bundle that an isolate has no room for is refused before its files are fetched', async () => {
  const manifest = JSON.parse(new TextDecoder().decode(fixture.files['manifest.json']));
  manifest.files.items.bytes = 30 * 1024 * 1024;
  const large = await start({ modules, assets: { 'manifest.json': new TextEncoder().encode(JSON.stringify(manifest)) } });
  const answer = await large.worker.dispatchFetch('http://worker.invalid/recommend', { method: 'POST', body: '{}' });
  await assertProblem(answer, 503, 'limit_exceeded');
  await large.close();
});

test('an engine that stops when its bundle was replaced gives way to one of the new bundle', async () => {
  const contents = `
    import worker from ${JSON.stringify(join(template, 'src/worker.ts'))};
    import * as bindings from ${JSON.stringify(join(fixture.project, 'node_modules/sanderling/wasm/sanderling_wasm.js'))};
    export default {
      async fetch(request, env, context) {
        if (new URL(request.url).pathname !== '/poison') return worker.fetch(request, env, context);
        const { memory } = await bindings.default();
        new Uint8Array(memory.buffer).fill(0xff);
        return new Response('poisoned');
      },
    };
  `;
  const assets = { ...fixture.files };
  const stopped = await start({ modules: await bundleWorker({ contents, project: fixture.project }), assets });
  const send = (path, init) => stopped.worker.dispatchFetch(`http://worker.invalid${path}`, init);
  const list = async () => (await send('/recommend', { method: 'POST', body: '{"limit":3}' })).json();
  const versionOf = async () => (await (await send('/healthz')).json()).bundle?.version;
  const version = await versionOf();
  const manifest = JSON.parse(new TextDecoder().decode(assets['manifest.json']));
  assets['manifest.json'] = new TextEncoder().encode(JSON.stringify({ ...manifest, version: version + 1 }));
  assert.equal(await versionOf(), version, 'an engine that works stays');

  await send('/poison');
  const { recommendations, faults } = await list();
  assert.deepEqual([recommendations.length, recommendations[0].source, faults[0].code], [3, 'fallback', 'engine_failed']);
  for (let tries = 0; tries < 200 && (await versionOf()) !== version + 1; tries += 1) {
    assert.equal((await list()).recommendations.length, 3, 'there is always a list');
    await setTimeout(20);
  }
  assert.equal(await versionOf(), version + 1);
  assert.deepEqual((await list()).faults.map(({ code }) => code), ['empty_session']);
  await stopped.close();
});

test('a time between looks that is none is said', async () => {
  const odd = await start({ modules, bundle: fixture.bundle, bindings: { CHECK_SECONDS: '1m' } });
  const problem = await assertProblem(await odd.worker.dispatchFetch('http://worker.invalid/healthz'), 503, 'invalid_argument');
  assert.equal(problem.found, '1m');
  await odd.close();
});

test('a bundle may come from a bucket', async () => {
  // A prefix as buckets have them.
  const stored = await start({ modules, r2Buckets: ['BUNDLES'], bindings: { BUNDLE_URL: 'bundle/' } });
  const askStored = () => stored.worker.dispatchFetch('http://worker.invalid/recommend', { method: 'POST', body: '{}' });
  const bucket = await stored.worker.getR2Bucket('BUNDLES');
  await assertProblem(await askStored(), 503, 'file_missing');
  for (const [name, bytes] of Object.entries(fixture.files)) await bucket.put(`bundle/${name}`, bytes);
  await setTimeout(5_100);
  const response = await askStored();
  assert.equal(response.status, 200);
  assert.equal((await response.json()).recommendations.length, 10);
  await stored.close();
});

test('a browser keeps its session in a signed cookie, with consent', async () => {
  const keeping = await start({ modules, bundle: fixture.bundle, bindings: { SESSION_SECRET: 'a secret of this test' } });
  const send = (path, { body, cookie, method = 'POST', ...headers } = {}) => keeping.worker.dispatchFetch(`http://worker.invalid${path}`, {
    method, headers: { ...headers, ...(cookie === undefined ? {} : { cookie: `theirs=1; ${cookie}` }) }, ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  const setBy = async (response) => {
    assert.equal(response.status, 204, await response.text());
    const cookies = response.headers.getSetCookie();
    const [other, cookie] = cookies[0].endsWith('Partitioned') ? cookies : cookies.reverse();
    assert.match(other, /^__Host-sanderling-session=; Max-Age=0; Path=\/; Secure; HttpOnly; SameSite=None; Partitioned$/, 'one for other sites goes');
    return cookie;
  };
  const interactions = fixture.itemIds.slice(0, 4).map((item_id, step) => ({ item_id, kind: 'view', timestamp: 1_700_000_000 + step }));
  const options = { limit: 5, now: 1_700_000_100, seed: 1 };
  const listed = async (body, cookie) => {
    const { recommendations, faults } = await (await send('/recommend', { body, cookie })).json();
    return [recommendations.map(({ item_id }) => item_id), faults.map(({ code }) => code)];
  };
  const first = await setBy(await send('/session', { body: { consent: 'device', interactions: interactions.slice(0, 2) } }));
  assert.match(first, /^__Host-sanderling-session=[\w-]+\.[\w-]+; Max-Age=2592000; Path=\/; Secure; HttpOnly; SameSite=Lax$/);
  const cookie = (await setBy(await send('/session', { body: { consent: 'share', interactions: interactions.slice(2) }, cookie: first.split(';')[0] }))).split(';')[0];
  assert.deepEqual(await listed(options, cookie), await listed({ ...options, session: interactions }));
  const [, withoutSession] = await listed(options);
  assert.deepEqual(withoutSession, ['empty_session']);
  const [[items], [otherItems]] = [await listed({ ...options, session: interactions.slice(0, 1) }, cookie), await listed({ ...options, session: interactions.slice(0, 1) })];
  assert.deepEqual(items, otherItems, 'a session in the body goes before the cookie');
  // Whoever changes a byte of it has no session.
  const at = cookie.indexOf('=') + 5;
  for (const forged of [`${cookie.slice(0, at)}${cookie[at] === 'A' ? 'B' : 'A'}${cookie.slice(at + 1)}`, `${cookie}AA`, cookie.split('.')[0], `${cookie.split('=')[0]}=%%%.x`]) {
    assert.deepEqual((await listed(options, forged))[1], ['empty_session'], forged);
  }
  // The newest interactions stay when a cookie would be too long.
  const many = Array.from({ length: 400 }, (_, step) => ({ item_id: fixture.itemIds[step % 30], kind: 'view', timestamp: 1_700_000_000 + step }));
  const long = await setBy(await send('/session', { body: { consent: 'device', interactions: [...many, ...interactions] } }));
  assert.ok(long.length < 4000, String(long.length));
  assert.equal((await listed(options, long.split(';')[0]))[1].length, 0);
  for (const [body, method] of [[{ consent: 'none', interactions }, 'POST'], [{ interactions }, 'POST'], [undefined, 'DELETE']]) {
    assert.match(await setBy(await send('/session', { body, method, cookie })), /^__Host-sanderling-session=; Max-Age=0;/);
  }
  await assertProblem(await send('/session', { body: { consent: 'device', interactions }, origin: 'https://else.example' }), 403, 'invalid_argument');
  for (const body of [[], { consent: 'device', interactions: [{}] }, { consent: 'device', other: 1 }]) await assertProblem(await send('/session', { body }), 400, 'invalid_argument');
  // Another secret signs, and the one before is still believed; no other is.
  for (const [secrets, faults] of [['a new one, a secret of this test', []], ['a new one', ['empty_session']]]) {
    const changed = await start({ modules, bundle: fixture.bundle, bindings: { SESSION_SECRET: secrets } });
    const answer = await changed.worker.dispatchFetch('http://worker.invalid/recommend', { method: 'POST', body: JSON.stringify(options), headers: { cookie } });
    assert.deepEqual((await answer.json()).faults.map(({ code }) => code), faults, secrets);
    await changed.close();
  }
  // What browsers have forgotten by now is good for nobody else.
  const signed = async (payload) => {
    const key = await crypto.subtle.importKey('raw', new TextEncoder().encode('a secret of this test'), { name: 'HMAC', hash: 'SHA-256' }, false, ['sign']);
    const bytes = new TextEncoder().encode(JSON.stringify(payload));
    return `__Host-sanderling-session=${[bytes, await crypto.subtle.sign('HMAC', key, bytes)].map((part) => Buffer.from(part).toString('base64url')).join('.')}`;
  };
  const rows = interactions.map(({ item_id: itemId, kind, timestamp }) => [itemId, kind, timestamp]);
  for (const [age, faults] of [[29, []], [31, ['empty_session']]]) {
    const old = await signed([Math.floor(Date.now() / 1000) - age * 86_400, rows]);
    assert.deepEqual((await listed(options, old))[1], faults, `${age} days`);
  }
  await keeping.close();
  const without = await ask('/session', { method: 'POST', body: JSON.stringify({ consent: 'device', interactions }) });
  await assertProblem(without, 404, 'not_found');
});

test('reports are handed on without anything that tells whose they are', async () => {
  const received = [];
  const collector = createServer((request, response) => {
    const chunks = [];
    request.on('data', (chunk) => chunks.push(chunk)).on('end', () => {
      received.push({ url: request.url, headers: request.headers, body: Buffer.concat(chunks).toString() });
      response.writeHead(429, { 'content-type': 'application/problem+json', 'retry-after': '7', 'set-cookie': 'a=b' }).end('{"code":"overloaded"}');
    });
  });
  await new Promise((listening) => collector.listen(0, '127.0.0.1', listening));
  const { port } = collector.address();
  const handing = await start({ modules, bundle: fixture.bundle, bindings: { COLLECTOR_URL: `http://127.0.0.1:${port}/` } });
  const send = (headers = {}) => handing.worker.dispatchFetch('http://worker.invalid/v1/reports', {
    method: 'POST', body: '{"report_id":"x"}', headers: { cookie: 'id=1', 'user-agent': 'somebody', referer: 'https://shop.example/private', 'x-forwarded-for': '203.0.113.9', ...headers },
  });
  const answer = await send();
  assert.deepEqual([answer.status, answer.headers.get('retry-after'), answer.headers.get('set-cookie'), await answer.json()], [429, '7', null, { code: 'overloaded' }]);
  const [{ url, headers, body }] = received;
  assert.deepEqual([url, body], ['/v1/reports', '{"report_id":"x"}']);
  assert.ok(!/203\.0\.113|somebody|private|id=1/.test(JSON.stringify(headers)), JSON.stringify(headers));
  for (const signal of ['sec-gpc', 'dnt']) await assertProblem(await send({ [signal]: '1' }), 403, 'invalid_argument');
  assert.equal(received.length, 1);
  await new Promise((closed) => collector.close(closed));
  const away = await send();
  assert.equal(away.headers.get('retry-after'), '60');
  await assertProblem(away, 502, 'io');
  await handing.close();
  await assertProblem(await ask('/v1/reports', { method: 'POST', body: '{}' }), 404, 'not_found');
});

test('browsers may call from the configured origin only', async () => {
  const origin = 'https://shop.example';
  const open = await start({ modules, bundle: fixture.bundle, bindings: { ALLOWED_ORIGIN: `${origin}/, https://www.shop.example`, SESSION_SECRET: 'a secret of this test' } });
  const from = (other, method = 'POST') =>
    open.worker.dispatchFetch('http://worker.invalid/recommend', { method, headers: { origin: other }, ...(method === 'POST' ? { body: '{}' } : {}) });
  for (const [other, method, expected] of [[origin, 'POST', origin], [origin, 'OPTIONS', origin], ['https://www.shop.example', 'POST', 'https://www.shop.example'], ['https://else.example', 'POST', null]]) {
    const response = await from(other, method);
    assert.equal(response.headers.get('access-control-allow-origin'), expected);
    assert.equal(response.headers.get('access-control-expose-headers'), expected && 'retry-after');
    assert.equal(response.headers.get('access-control-max-age'), expected && '7200');
    await response.text();
  }
  // Pages of another site send no other cookies.
  for (const [method, body] of [['POST', '{"consent":"device","interactions":[]}'], ['DELETE', undefined]]) {
    const response = await open.worker.dispatchFetch('http://worker.invalid/session', { method, body, headers: { origin } });
    const cookies = response.headers.getSetCookie();
    const [wanted] = cookies.filter((cookie) => cookie.endsWith('; Path=/; Secure; HttpOnly; SameSite=None; Partitioned'));
    const [older] = cookies.filter((cookie) => cookie.endsWith('; Max-Age=0; Path=/; Secure; HttpOnly; SameSite=Lax'));
    assert.deepEqual([cookies.length, wanted.includes('Max-Age=0'), older !== undefined], [2, method === 'DELETE', true]);
  }
  await open.close();
});
