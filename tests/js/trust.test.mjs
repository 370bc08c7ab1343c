// Which bundles are opened: keys that change, time that is over, and bundles that were taken back.
import assert from 'node:assert/strict';
import { cp, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';

import { findBrowser } from '../../www/tools/browser.mjs';
import { readBundle, signBundle } from './lib/bundle.mjs';
import { openPage } from './lib/chromium.mjs';
import { openFixture } from './lib/fixture.mjs';
import { PROGRAM } from './lib/paths.mjs';

const run = promisify(execFile);
const noBrowser = findBrowser() === undefined && 'no Chromium is installed';
const DAY = 86_400;

let fixture;
let signed;
let keys;

before(async () => {
  fixture = await openFixture();
  signed = await signBundle(fixture.bundle);
  const second = join(signed.scratch, 'second');
  await run(PROGRAM, ['keygen', '--out', second]);
  keys = [signed.publicKey, (await readFile(`${second}.pub`, 'utf8')).trim(), '0'.repeat(64)];
});

after(async () => {
  fixture.engine.free();
  await rm(signed.scratch, { recursive: true, force: true });
});

/** A copy of the bundle, signed with more arguments. */
async function signedCopy(name, ...args) {
  const folder = join(signed.scratch, name);
  await cp(fixture.bundle, folder, { recursive: true });
  await run(PROGRAM, ['sign', folder, ...args]);
  return folder;
}

const key = (name) => join(signed.scratch, name);
const outcome = async (folder, options = {}) => {
  try {
    const recommender = await fixture.sanderling.Recommender.load({ files: await readBundle(folder), consent: 'none', ...options });
    recommender.free();
    return 'ok';
  } catch (error) {
    assert.ok(error instanceof fixture.sanderling.RecommenderError, error);
    return error.code;
  }
};

test('while keys change, a bundle has two signatures or a page trusts two keys', async () => {
  const [old, fresh, unknown] = keys;
  const both = await signedCopy('both', '--key', key('key'), '--key', key('second'));
  for (const [folder, publicKey, expected] of [
    [signed.folder, [old, fresh], 'ok'], [signed.folder, fresh, 'signature_invalid'], [both, old, 'ok'], [both, [fresh], 'ok'],
    [both, [unknown, fresh], 'ok'], [both, unknown, 'signature_invalid'], [both, [], 'invalid_argument'], [both, ['xyz'], 'invalid_argument'],
  ]) assert.equal(await outcome(folder, { publicKey }), expected, JSON.stringify(publicKey));
});

test('a bundle whose time is over is refused', async () => {
  const [publicKey] = keys;
  const folder = await signedCopy('until', '--key', key('key'), '--expires-in-days', '1');
  assert.equal(await outcome(folder, { publicKey }), 'ok');
  const { now } = Date;
  Date.now = () => now() + 2 * DAY * 1000;
  try {
    assert.equal(await outcome(folder, { publicKey }), 'bundle_expired');
    assert.equal(await outcome(signed.folder, { publicKey }), 'ok', 'one without an end');
  } finally {
    Date.now = now;
  }
});

test('a bundle under the least rollback index is refused', async () => {
  const folder = await signedCopy('index', '--key', key('key'), '--rollback-index', '3');
  for (const [minRollbackIndex, expected] of [[3, 'ok'], [4, 'bundle_rolled_back'], [-1, 'invalid_argument'], [0.5, 'invalid_argument']]) {
    assert.equal(await outcome(folder, { minRollbackIndex }), expected);
  }
  assert.equal(await outcome(signed.folder, { minRollbackIndex: 1 }), 'bundle_rolled_back');
});

test('a browser remembers the rollback index of a folder and opens nothing older there', { skip: noBrowser }, async () => {
  const later = await signedCopy('later', '--key', key('key'), '--rollback-index', '2');
  const opened = await openPage({ project: fixture.project, bundle: later });
  const visit = (options) => opened.page.evaluate(async (options) => {
    const { Recommender } = await import(new URL('sanderling/dist/browser.js', location.href));
    const kept = async (name) => (await (await caches.open('sanderling-bundles')).match(new URL(name, location.href)));
    const index = async () => (await kept('bundle/?rollback_index'))?.text();
    const isSigned = async () => !(await kept('bundle/'))?.headers.get('x-sanderling-bundle').endsWith(' ');
    const isKept = async () => (await kept('bundle/')) !== undefined && (options.publicKey === undefined || ((await index()) !== undefined && (await isSigned())));
    try {
      const recommender = await Recommender.load({ baseUrl: './bundle/', consent: 'device', ...options });
      for (let tries = 0; tries < 100 && !(await isKept()); tries += 1) await new Promise((done) => setTimeout(done, 20));
      const { isLastGood, hash } = recommender.bundle;
      recommender.free();
      return { isLastGood, hash, index: await index() };
    } catch ({ code }) {
      return code;
    }
  }, options);
  try {
    assert.equal((await visit({})).index, undefined, 'what nobody has to sign says nothing of later bundles');
    const [publicKey] = keys;
    const first = await visit({ publicKey });
    assert.deepEqual([first.isLastGood, first.index], [false, '2']);
    // Somebody puts the bundle of before in its place, with its good signature.
    await cp(signed.folder, join(opened.root, 'bundle'), { recursive: true });
    assert.deepEqual(await visit({ publicKey }), { ...first, isLastGood: true }, 'the kept one is opened instead');
    assert.equal(await visit({ publicKey, keepBundle: false, minRollbackIndex: 1 }), 'bundle_rolled_back');
  } finally {
    await opened.close();
  }
});

test('two pages that open bundles at one time leave the larger rollback index', { skip: noBrowser }, async () => {
  const folders = await Promise.all(['2', '3'].map((index) => signedCopy(`at-once-${index}`, '--key', key('key'), '--rollback-index', index)));
  const opened = await openPage({ project: fixture.project, bundle: folders[1] });
  try {
    await cp(folders[0], join(opened.root, 'before'), { recursive: true });
    const index = await opened.page.evaluate(async (publicKey) => {
      const { Recommender } = await import(new URL('sanderling/dist/browser.js', location.href));
      const put = Cache.prototype.put;
      const written = [];
      // The page with the bundle of before is slow to write.
      Cache.prototype.put = async function (address, response) {
        if (!String(address).endsWith('?rollback_index')) return put.call(this, address, response);
        const text = await response.text();
        if (text === '2') await new Promise((done) => setTimeout(done, 300));
        await put.call(this, address, new Response(text));
        written.push(text);
      };
      const ofBefore = (url, init) => fetch(String(url).replace('/bundle/', '/before/'), init);
      const options = { baseUrl: './bundle/', consent: 'device', publicKey };
      const recommenders = await Promise.all([Recommender.load({ ...options, fetch: ofBefore }), Recommender.load(options)]);
      for (let tries = 0; tries < 100 && !written.includes('3'); tries += 1) await new Promise((done) => setTimeout(done, 20));
      await new Promise((done) => setTimeout(done, 500));
      for (const recommender of recommenders) recommender.free();
      return (await (await caches.open('sanderling-bundles')).match(new URL('bundle/?rollback_index', location.href)))?.text();
    }, keys[0]);
    assert.equal(index, '3');
  } finally {
    await opened.close();
  }
});
