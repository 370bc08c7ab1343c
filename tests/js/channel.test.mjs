import assert from 'node:assert/strict';
import { before, test } from 'node:test';

import { openFixture } from './lib/fixture.mjs';
import { importFrom } from './lib/node.mjs';
import { installPacked } from './lib/packed.mjs';

const URL_OF_CHANNEL = 'https://shop.example/models/channel.json';
const release = (version) => ({ bundle_sha256: String(version).repeat(64).slice(0, 64), path: `${version}-shop/`, since: 5, version });
const CHANNEL = { canary: { release: release(2), share: 0.25 }, champion: release(1), format_version: 1, name: 'shop' };

let followChannel;
before(async () => {
  ({ followChannel } = await importFrom(await installPacked(), 'channel'));
});

const serving = (body, status = 200) => async () => new Response(typeof body === 'string' ? body : JSON.stringify(body), { status });
const follow = (channel, options = {}) => followChannel(URL_OF_CHANNEL, { fetch: serving(channel), ...options });

/** A page's `localStorage`, as a map, for as long as the test runs. */
function storageIn(t) {
  const kept = new Map();
  const methods = {
    getItem: (key) => kept.get(key) ?? null, setItem: (key, value) => void kept.set(key, value), removeItem: (key) => void kept.delete(key),
  };
  // A page's has its keys as properties.
  globalThis.localStorage = new Proxy(methods, {
    ownKeys: () => [...kept.keys()], getOwnPropertyDescriptor: () => ({ configurable: true, enumerable: true }),
  });
  t.after(() => delete globalThis.localStorage);
  return kept;
}

test('the share of devices that the channel names loads the canary', async () => {
  const canary = await follow(CHANNEL, { draw: 0.2499 });
  assert.deepEqual(canary, {
    channelUrl: URL_OF_CHANNEL,
    baseUrl: 'https://shop.example/models/2-shop/', bundleHash: CHANNEL.canary.release.bundle_sha256, version: 2, isCanary: true,
    championUrl: 'https://shop.example/models/1-shop/',
  });
  const champion = await follow(CHANNEL, { draw: 0.25 });
  assert.deepEqual([champion.baseUrl, champion.isCanary], [canary.championUrl, false]);
  assert.equal((await follow({ ...CHANNEL, canary: null }, { draw: 0 })).isCanary, false);
  let drawn = 0;
  for (let device = 0; device < 2000; device += 1) drawn += Number((await follow(CHANNEL)).isCanary);
  // 99.99 % of a binomial(2000, 0.25) lie within 3.9 standard deviations.
  assert.ok(Math.abs(drawn - 500) < 76, `${drawn} of 2000`);
});

test('a device keeps its draw for a canary where it may keep something', async (t) => {
  const kept = storageIn(t);
  const first = (await follow(CHANNEL, { consent: 'device' })).isCanary;
  for (let visit = 0; visit < 40; visit += 1) assert.equal((await follow(CHANNEL, { consent: 'device' })).isCanary, first);
  assert.equal(kept.size, 1);
  const [before] = kept.values();
  await follow({ ...CHANNEL, canary: { release: release(3), share: 0.25 } }, { consent: 'device' });
  assert.notEqual([...kept.values()][0], before, 'another canary, another draw');
  kept.set('theirs', 'stays');
  await follow(CHANNEL, { consent: 'none' });
  assert.deepEqual([...kept.keys()], ['theirs'], 'nothing is kept without consent, and what was is forgotten');
});

test('a draw goes with consent, and with everything else that is erased', async (t) => {
  const fixture = await openFixture();
  const kept = storageIn(t);
  const draw = async () => {
    await follow(CHANNEL, { consent: 'device' });
    assert.equal(kept.size, 1);
  };
  for (const forget of [(recommender) => recommender.setConsent('none'), (recommender) => recommender.erase()]) {
    await draw();
    const recommender = await fixture.load({ consent: 'device' });
    await forget(recommender);
    assert.equal(kept.size, 0);
    recommender.free();
  }
  await draw();
  const without = await fixture.load({ consent: 'none' });
  await without.settled();
  assert.equal(kept.size, 0);
  without.free();
  await draw();
  await follow({ ...CHANNEL, canary: null }, { consent: 'none' });
  assert.equal(kept.size, 0, 'also where there is no canary any more');
  fixture.engine.free();
});

test('what is no channel is refused with a code', async () => {
  const canary = (changes) => ({ ...CHANNEL, canary: { ...CHANNEL.canary, ...changes } });
  const cases = [
    [serving('no', 404), 'file_missing'], [serving('no', 500), 'io'], [async () => { throw new TypeError('offline'); }, 'io'],
    [serving('{'), 'invalid_argument'], [serving('null'), 'unsupported_format_version'], [serving({ ...CHANNEL, format_version: 2 }), 'unsupported_format_version'],
    [serving(canary({ share: 0.6 })), 'invalid_argument'], [serving(canary({ share: 0 })), 'invalid_argument'],
    [serving(canary({ release: { ...release(2), path: '../elsewhere/' } })), 'invalid_argument'],
    [serving(canary({ release: { ...release(2), path: 'https://elsewhere.example/' } })), 'invalid_argument'],
    [serving({ ...CHANNEL, champion: { ...release(1), bundle_sha256: 'x' } }), 'invalid_argument'], [serving(' '.repeat(20_000)), 'invalid_argument'],
  ];
  for (const [fetch, code] of cases) {
    await assert.rejects(followChannel(URL_OF_CHANNEL, { fetch, draw: 0 }), ({ code: found }) => found === code, `${code}: ${fetch}`);
  }
  await assert.rejects(follow(CHANNEL, { draw: 1 }), ({ code }) => code === 'invalid_argument');
});

test('an address is relative to the page, or to the script of a worker', async (t) => {
  t.after(() => ['document', 'location'].forEach((name) => delete globalThis[name]));
  const relative = async () => (await followChannel('models/channel.json', { fetch: serving(CHANNEL), draw: 1 - 2 ** -32 })).baseUrl;
  await assert.rejects(relative(), ({ code, details }) => code === 'invalid_argument' && details.found === 'models/channel.json', 'on a server there is neither');
  globalThis.location = { href: 'https://cdn.example/js/worker.js' };
  assert.equal(await relative(), 'https://cdn.example/js/models/1-shop/');
  globalThis.document = { baseURI: 'https://shop.example/' };
  assert.equal(await relative(), 'https://shop.example/models/1-shop/');
});
