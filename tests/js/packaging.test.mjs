import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';

import { findBrowser } from '../../www/tools/browser.mjs';
import { bunCommand, openBun } from './lib/bun.mjs';
import { signBundle } from './lib/bundle.mjs';
import { openChromium, openPage } from './lib/chromium.mjs';
import { denoCommand, openDeno } from './lib/deno.mjs';
import { findFirefox, openFirefox } from './lib/firefox.mjs';
import { openFixture } from './lib/fixture.mjs';
import { openNode } from './lib/node.mjs';
import { installForOperations } from './lib/packed.mjs';
import { REPO, toolPath } from './lib/paths.mjs';
import { runModule } from './lib/program.mjs';
import { openWorkerd } from './lib/workerd.mjs';

const run = promisify(execFile);
const noBrowser = findBrowser() === undefined && 'no Chromium is installed';
const OTHERS = [
  ['Deno', openDeno, false],
  ['Bun', openBun, false],
  ['workerd', openWorkerd, false],
  ['Chromium', openChromium, noBrowser],
  ['Firefox', openFirefox, findFirefox() === undefined && 'no Firefox is installed'],
];

let fixture;
let signed;

before(async () => {
  fixture = await openFixture();
  signed = await signBundle(fixture.bundle);
});

after(async () => {
  fixture.engine.free();
  await rm(signed.scratch, { recursive: true, force: true });
});

function operations() {
  const session = fixture.itemIds.slice(0, 4).map((item_id, step) => ({ item_id, kind: 'view', timestamp: 1_700_000_000 + step }));
  return [
    { op: 'recommend', request: { session, limit: 10, now: 1_700_000_100, seed: 7 } },
    { op: 'similar', item_id: fixture.itemIds[0], limit: 5 },
    { op: 'encode', item_ids: fixture.itemIds.slice(0, 4) },
    { op: 'no such operation' },
    { op: 'load', mutate: { file: 'items.bin', flip_byte: 3 } },
    { op: 'load', mutate: { file: 'encoder.onnx', truncate_to: 10 } },
    { op: 'load', mutate: { file: 'manifest.json', replace_format_version: 9 } },
    { op: 'load' },
  ];
}

/** Opens a runtime, runs the operations, and closes it. */
async function outcomesIn(open) {
  const runtime = await open({ ...fixture, project: await installForOperations() });
  try {
    return await runtime.run(operations());
  } finally {
    await runtime.close();
  }
}

function checkOutcomes(outcomes) {
  const [recommended, similar, encoded, unknown, flipped, truncated, version, intact] = outcomes;
  assert.equal(recommended.ok.response.recommendations.length, 10);
  assert.ok(similar.ok.recommendations.length > 0);
  assert.ok(encoded.ok.query.every(Number.isFinite));
  assert.equal(unknown.error.code, 'invalid_argument');
  assert.deepEqual([flipped.error.code, truncated.error.code, version.error.code], ['hash_mismatch', 'file_truncated', 'unsupported_format_version']);
  assert.deepEqual(intact, { ok: null });
}

const itemsOf = ([recommended]) => recommended.ok.response.recommendations.map(({ item_id }) => item_id);

test('Node runs the packed package', async () => checkOutcomes(await outcomesIn(openNode)));

for (const [name, open, skip] of OTHERS) {
  test(`${name} runs the packed package, with the same lists`, { skip }, async () => {
    const outcomes = await outcomesIn(open);
    checkOutcomes(outcomes);
    assert.deepEqual(itemsOf(outcomes), itemsOf(await outcomesIn(openNode)));
  });
}

for (const [name, command] of [['Deno', denoCommand], ['Bun', bunCommand]]) {
  test(`${name} loads a bundle from its folder, as Node does`, async () => {
    const list = (recommender) => recommender.recommend({ limit: 5, now: 1_700_000_100 }).recommendations.map(({ itemId }) => itemId);
    const script = `
      import { Recommender } from 'sanderling';
      import { Recommender as Full } from 'sanderling/full';
      const list = ${list};
      for (const { load } of [Recommender, Full]) console.log(JSON.stringify(list(await load(${JSON.stringify(fixture.bundle)}))));
    `;
    const expected = JSON.stringify(list(await fixture.load()));
    assert.deepEqual((await runModule(command(), fixture.project, script)).trim().split('\n'), [expected, expected]);
  });
}

for (const [name, open, skip] of [['Node', openNode, false], ...OTHERS]) {
  test(`${name} takes a bundle that the key signed, and no other`, { skip }, async () => {
    const { folder, publicKey } = signed;
    const otherKey = `${publicKey.startsWith('0') ? '1' : '0'}${publicKey.slice(1)}`;
    const version = { file: 'manifest.json', replace: ['"name":"shop"', '"name":"shoq"'] };
    const loads = [
      [{ public_key: publicKey }, 'ok'],
      [{}, 'ok'],
      [{ public_key: otherKey }, 'signature_invalid'],
      [{ public_key: publicKey, mutate: version }, 'signature_invalid'],
      [{ public_key: publicKey, mutate: { file: 'manifest.sig', flip_byte: 5 } }, 'signature_invalid'],
      [{ public_key: publicKey, mutate: { file: 'manifest.sig', remove: true } }, 'signature_missing'],
    ];
    const runtime = await open({ project: fixture.project, bundle: folder });
    try {
      const outcomes = await runtime.run(loads.map(([load]) => ({ op: 'load', ...load })));
      assert.deepEqual(outcomes.map(({ error }) => error?.code ?? 'ok'), loads.map(([, expected]) => expected));
    } finally {
      await runtime.close();
    }
  });
}

test('importing any entry touches nothing', async () => {
  const script = `
    const touched = [];
    for (const name of ['fetch', 'indexedDB', 'navigator', 'localStorage', 'document', 'location']) {
      Object.defineProperty(globalThis, name, { configurable: true, get() { touched.push(name); return undefined; } });
    }
    for (const entry of ['browser', 'node', 'element', 'channel', 'sessions', 'wire']) await import('./node_modules/sanderling/dist/' + entry + '.js');
    console.log(JSON.stringify(touched));
  `;
  const { stdout } = await run(process.execPath, ['--input-type=module', '-e', script], { cwd: fixture.project });
  assert.deepEqual(JSON.parse(stdout), []);
});

test('a CommonJS host can import it, and the wasm bytes have an export', async () => {
  const script = `
    import('sanderling').then(async ({ Recommender }) => {
      const wasm = require('node:fs').readFileSync(require.resolve('sanderling/wasm'));
      const recommender = await Recommender.load({ baseUrl: ${JSON.stringify(fixture.bundle)}, wasm, consent: 'none' });
      console.log(recommender.recommend({ limit: 3 }).recommendations.length);
      recommender.free();
    });
  `;
  const { stdout } = await run(process.execPath, ['--input-type=commonjs', '-e', script], { cwd: fixture.project });
  assert.equal(stdout.trim(), '3');
});

test('the package holds what it declares and nothing else', async () => {
  const folder = join(fixture.project, 'node_modules', 'sanderling');
  const manifest = JSON.parse(await readFile(join(folder, 'package.json'), 'utf8'));
  assert.equal(Object.keys(manifest.exports['.'])[0], 'types');
  assert.equal(manifest.dependencies, undefined);
  const targets = Object.values(manifest.exports).flatMap((target) => (typeof target === 'string' ? [target] : Object.values(target)));
  for (const target of targets) await readFile(join(folder, target));
  for (const licence of ['LICENSE-APACHE', 'LICENSE-MIT']) {
    assert.equal(await readFile(join(folder, licence), 'utf8'), await readFile(join(REPO, licence), 'utf8'));
  }
});

for (const [resolution, module] of [['bundler', 'es2022'], ['node16', 'node16']]) {
  test(`the types are right under moduleResolution ${resolution}`, async () => {
    const sample = await readFile(new URL('types.sample.ts', import.meta.url), 'utf8');
    const compilerOptions = {
      noEmit: true, strict: true, exactOptionalPropertyTypes: true, target: 'es2022', lib: ['es2023', 'dom'], types: [], module, moduleResolution: resolution,
    };
    const config = join(fixture.project, `tsconfig.${resolution}.json`);
    await writeFile(join(fixture.project, 'sample.mts'), sample);
    await writeFile(config, JSON.stringify({ compilerOptions, files: ['sample.mts'] }));
    const args = [toolPath('typescript/bin/tsc'), '-p', config];
    await run(process.execPath, args, { cwd: fixture.project }).catch((error) => assert.fail(error.stdout || error.message));
  });
}

test('state outlives a reload in a real browser, and consent and signals rule it', { skip: noBrowser }, async () => {
  const opened = await openPage(fixture);
  const { page, context, url } = opened;
  const visit = (options, ids = []) =>
    page.evaluate(async ({ options, ids }) => {
      const { Recommender } = await import(new URL('sanderling/dist/browser.js', location.href));
      const recommender = await Recommender.load({ baseUrl: './bundle/', ...options });
      for (const itemId of ids) recommender.observe({ itemId, kind: 'view' });
      recommender.recommend({ limit: 3 });
      await recommender.settled();
      const { storage, session, records } = await recommender.export();
      const databases = (await indexedDB.databases()).map(({ name }) => name);
      const { consent, privacySignal } = recommender;
      recommender.free();
      return { storage, numItems: session.length, keys: Object.keys(records), databases, consent, privacySignal };
    }, { options, ids });
  try {
    assert.deepEqual((await visit({ consent: 'none' }, fixture.itemIds.slice(0, 2))).databases, []);
    const stored = await visit({}, fixture.itemIds.slice(0, 2));
    assert.deepEqual([stored.storage, stored.numItems, stored.databases], ['indexeddb', 2, ['sanderling']]);
    await page.goto(url);
    assert.equal((await visit({}, fixture.itemIds.slice(2, 3))).numItems, 3);
    await page.goto(url);
    assert.deepEqual((await visit({ consent: 'none' })).databases, []);
    await context.addInitScript(() => Object.defineProperty(Navigator.prototype, 'globalPrivacyControl', { value: true }));
    await page.goto(url);
    const signalled = await visit({ consent: 'share', collectorUrl: url });
    assert.deepEqual([signalled.consent, signalled.privacySignal], ['device', 'gpc']);
  } finally {
    await opened.close();
  }
});

test('the example of the README runs in a real browser as it is written', { skip: noBrowser }, async () => {
  const readme = await readFile(join(fixture.project, 'node_modules', 'sanderling', 'README.md'), 'utf8');
  const [, example] = readme.match(/```js\n([^]*?)```/);
  const opened = await openPage(fixture);
  try {
    const lines = [];
    opened.page.on('console', (message) => lines.push(message.text()));
    const entry = new URL('sanderling/dist/browser.js', opened.url).href;
    await opened.page.setContent(`<script type="importmap">{"imports":{"sanderling":"${entry}"}}</script><script type="module">${example};window.done = true</script>`);
    await opened.page.waitForFunction(() => window.done);
    assert.equal(lines.length, 10);
  } finally {
    await opened.close();
  }
});

test('a module worker runs it', { skip: noBrowser }, async () => {
  const opened = await openPage(fixture);
  try {
    const count = await opened.page.evaluate(async () => {
      const code = `
        import { Recommender } from '${new URL('sanderling/dist/browser.js', location.href)}';
        const recommender = await Recommender.load({ baseUrl: '${new URL('bundle/', location.href)}' });
        postMessage(recommender.recommend({ limit: 6 }).recommendations.length);
      `;
      const worker = new Worker(URL.createObjectURL(new Blob([code], { type: 'text/javascript' })), { type: 'module' });
      return new Promise((resolve, reject) => {
        worker.onmessage = ({ data }) => resolve(data);
        worker.onerror = (event) => reject(new Error(event.message));
      });
    });
    assert.equal(count, 6);
  } finally {
    await opened.close();
  }
});
