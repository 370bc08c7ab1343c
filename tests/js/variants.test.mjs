// The builds of the slim runtime give the same results, and a page takes the best one that works on its machine.
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';

import { findBrowser } from '../../www/tools/browser.mjs';
import { chooseVariant, multipliesFours, RELAXED_SIMD, SIMD128 } from '../../www/pkg/dist/variants.js';
import { bundleOfWidth } from './lib/bundle.mjs';
import { openPage } from './lib/chromium.mjs';
import { openFixture } from './lib/fixture.mjs';

const noBrowser = findBrowser() === undefined && 'no Chromium is installed';
const BUILDS = ['quads', 'pairs', 'wasm', 'scalar'];

let fixture;

before(async () => {
  fixture = await openFixture();
});

after(() => fixture.engine.free());

/** A module whose self-test answers `answer`. */
function build(answer) {
  const name = [...new TextEncoder().encode('kernels_work')];
  return new WebAssembly.Module(Uint8Array.of(
    0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 127, 3, 2, 1, 0, 7, name.length + 4, 1, name.length, ...name, 0, 0, 10, 6, 1, 4, 0, 65, answer, 11,
  ));
}

test('the first build that is valid, can be had and passes its self-test is taken', async () => {
  const [working, wrong] = [build(1), build(0)];
  const asked = [];
  const variant = (name, probe, found) => ({ probe, wasm: () => (asked.push(name), found) });
  const compile = async (source) => {
    if (source === 'missing') throw new Error('404');
    return source;
  };
  const invalid = Uint8Array.of(0, 97, 115, 109, 9, 0, 0, 0);
  const all = [
    variant('invalid', invalid, working), variant('missing', SIMD128, 'missing'), variant('wrong', SIMD128, wrong), variant('working', SIMD128, working),
    variant('later', SIMD128, build(1)),
  ];
  assert.equal(await chooseVariant(all, compile), working);
  assert.deepEqual(asked, ['missing', 'wrong', 'working'], 'what is not valid here is not even fetched');
  assert.equal(await chooseVariant(all.slice(0, 3), compile), undefined);
});

/** Lists of every build in one page, and what it fetched when it was free to choose. */
async function inPage(page, names) {
  return page.evaluate(async ({ names, itemIds }) => {
    const lists = {};
    for (const name of names) {
      // One module, and so one instance, for each.
      const { Recommender } = await import(new URL(`sanderling/dist/browser.js?${name}`, location.href));
      const wasm = name === 'chosen' ? undefined : new URL(`sanderling/wasm/sanderling_${name}_bg.wasm`, location.href);
      const recommender = await Recommender.load({ baseUrl: 'bundle/', consent: 'none', wasm });
      const session = itemIds.map((itemId, step) => ({ itemId, kind: 'view', timestamp: 1_700_000_000 + step }));
      const recommend = () => recommender.recommend({ session, limit: 20, now: 1_700_000_100, rules: { diversity: 0.3 } });
      // The second list is of a scan that knows the rows.
      lists[name] = [recommend(), recommend()];
      recommender.free();
    }
    return lists;
  }, { names, itemIds: fixture.itemIds.slice(0, 7) });
}

// Rows of these widths are multiplied by code of their own.
for (const dim of [64, 32, 128]) {
  test(`all builds give the same bits with vectors of ${dim}`, { skip: noBrowser }, async () => {
    const bundle = dim === 64 ? fixture.bundle : await bundleOfWidth(dim);
    const { shapes } = JSON.parse(await readFile(join(bundle, 'manifest.json'), 'utf8'));
    assert.ok(shapes.dim === dim && shapes.num_items > 300, JSON.stringify(shapes));
    const lists = {};
    for (const name of BUILDS) {
      const { page, close } = await openPage({ ...fixture, bundle });
      try {
        Object.assign(lists, await inPage(page, [name]));
      } finally {
        await close();
      }
    }
    assert.equal(lists.wasm[0].recommendations.length, 20);
    for (const name of BUILDS) assert.deepEqual(lists[name], [lists.wasm[0], lists.wasm[0]], name);
  });
}

/** The best build for this machine. */
async function bestIn(page) {
  const lane = await page.evaluate((probe) => {
    const bytes = Uint8Array.from(probe);
    return WebAssembly.validate(bytes) ? new WebAssembly.Instance(new WebAssembly.Module(bytes)).exports.a() : undefined;
  }, [...RELAXED_SIMD]);
  if (lane === undefined) return 'wasm';
  return multipliesFours({ a: () => lane }) ? 'quads' : 'pairs';
}

test('a build that the machine has to emulate is passed over', async () => {
  const [slow, next] = [build(1), build(1)];
  const saturated = Uint8Array.of(0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 127, 3, 2, 1, 0, 7, 5, 1, 1, 97, 0, 0, 10, 8, 1, 6, 0, 65, 254, 255, 3, 11);
  const variants = [{ probe: saturated, isFast: multipliesFours, wasm: () => slow }, { probe: SIMD128, wasm: () => next }];
  const compile = async (source) => source;
  assert.equal(await chooseVariant(variants, compile), next, '65,534: two saturated sums');
  // What VNNI and ARM answer.
  for (const lane of [4 * 127 * 255, -4 * 127]) assert.equal(multipliesFours({ a: () => lane }), true);
});

for (const [missing, taken] of [[[], 'the best'], [['quads', 'pairs'], 'wasm'], [['quads', 'pairs', 'wasm'], 'scalar']]) {
  test(`a page that cannot have ${missing.join(' and ') || 'anything less'} takes ${taken}`, { skip: noBrowser }, async () => {
    const { page, close } = await openPage(fixture);
    try {
      for (const name of missing) await page.route(`**/sanderling_${name}_bg.wasm`, (route) => route.fulfill({ status: 503 }));
      const fetched = [];
      page.on('response', (response) => {
        const name = /sanderling_(\w+)_bg\.wasm$/.exec(new URL(response.url()).pathname)?.[1];
        if (name !== undefined && response.ok()) fetched.push(name);
      });
      const { chosen } = await inPage(page, ['chosen']);
      assert.equal(chosen[0].recommendations.length, 20);
      assert.deepEqual(chosen[0].faults, []);
      assert.deepEqual(fetched, [taken === 'the best' ? await bestIn(page) : taken]);
    } finally {
      await close();
    }
  });
}

test('a server that adds a parameter to the media type costs nothing', { skip: noBrowser }, async () => {
  const { page, close } = await openPage(fixture);
  try {
    const fetched = [];
    await page.route('**/*_bg.wasm', async (route) => {
      fetched.push(/sanderling_(\w+)_bg/.exec(route.request().url())[1]);
      const response = await route.fetch();
      await route.fulfill({ response, headers: { ...response.headers(), 'content-type': 'application/wasm; charset=utf-8' } });
    });
    assert.deepEqual((await inPage(page, ['chosen'])).chosen[0].faults, []);
    assert.deepEqual(fetched, [await bestIn(page)]);
  } finally {
    await close();
  }
});

test('a page that may not run wasm is told so, and fetches no build', { skip: noBrowser }, async () => {
  const { page, url, close } = await openPage(fixture);
  try {
    await page.route(url, async (route) => {
      const response = await route.fetch();
      await route.fulfill({ response, headers: { ...response.headers(), 'content-security-policy': "script-src 'self'" } });
    });
    await page.goto(url);
    let numFetched = 0;
    page.on('request', (request) => { numFetched += Number(request.url().endsWith('_bg.wasm')); });
    // Scripts of the test itself are evaluated outside of the page's policy.
    const error = await page.evaluate(async () => {
      const { Recommender } = await import(new URL('sanderling/dist/browser.js', location.href));
      return Recommender.load({ baseUrl: 'bundle/', consent: 'none' }).then(() => 'it ran', ({ code, details }) => ({ code, hint: details.hint }));
    });
    assert.equal(error.code, 'io');
    assert.match(error.hint, /wasm-unsafe-eval/);
    assert.equal(numFetched, 0);
  } finally {
    await close();
  }
});

test('the probes are valid modules where their instructions are', { skip: noBrowser }, async () => {
  const { page, close } = await openPage(fixture);
  try {
    const valid = await page.evaluate((probes) => probes.map((probe) => WebAssembly.validate(Uint8Array.from(probe))), [RELAXED_SIMD, SIMD128].map((probe) => [...probe]));
    assert.deepEqual(valid, [true, true]);
  } finally {
    await close();
  }
});
