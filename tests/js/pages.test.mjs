// Pages and their workers, tabs and visits, in a real browser.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, test } from 'node:test';

import { noBrowser } from './lib/bundled-page.mjs';
import { openPage } from './lib/chromium.mjs';
import { openFixture } from './lib/fixture.mjs';

let fixture;

before(async () => {
  fixture = await openFixture();
});

after(() => fixture.engine.free());

test('a worker answers like the page, in order, keeps deadlines, and outlives nobody', { skip: noBrowser }, async () => {
  const opened = await openPage(fixture);
  try {
    const seen = await opened.page.evaluate(async (itemIds) => {
      const { Recommender } = await import(new URL('sanderling/dist/browser.js', location.href));
      const codeOf = (work) => work.then(() => 'ok', ({ code }) => code);
      const now = 1_700_000_100;
      const here = await Recommender.load({ baseUrl: './bundle/', consent: 'none' });
      const there = await Recommender.inWorker({ baseUrl: './bundle/', consent: 'none' });
      const request = { limit: 5, now, seed: 3 };
      const heard = [];
      there.onChange(() => heard.push(there.revision));
      for (const [step, itemId] of itemIds.entries()) {
        const interaction = { itemId, kind: 'view', timestamp: now - 10 + step };
        here.observe(interaction);
        void there.observe(interaction);
      }
      const lists = [here.recommend(request), await there.recommend(request)].map((list) => JSON.stringify(list));
      const ranked = [here.rank(itemIds, request), await there.rank(itemIds, request)].map((list) => JSON.stringify(list));
      const similar = [here.similar(itemIds[0]), await there.similar(itemIds[0])].map((list) => JSON.stringify(list));
      const late = await there.recommend({ ...request, deadlineMs: 0 });
      const lateRank = await there.rank(itemIds, { ...request, deadlineMs: 0 });
      const out = {
        lists, ranked, similar, heard: heard.length, hash: [here.bundle.hash, there.bundle.hash],
        late: [...late.faults, ...lateRank.faults].map(({ code }) => code),
        preview: (await there.telemetry.preview()).consent,
        same: [await there.consent, JSON.stringify(await there.session) === JSON.stringify(here.session), there.privacySignal],
        codes: [
          await codeOf(there.similar('no such item')), await codeOf(there.recommend({ limit: 'x' })), await codeOf(there.recommend({ context: { f: () => 1 } })),
          await codeOf(Recommender.inWorker({ baseUrl: './nowhere/' })), await codeOf(Recommender.inWorker({ baseUrl: './bundle/', fetch })),
        ],
      };
      const learning = await Recommender.inWorker({ baseUrl: './bundle/', storageName: 'learning', personalise: true });
      void learning.observe({ itemId: itemIds[0], kind: 'view', timestamp: now - 10 });
      void learning.recommend(request);
      void learning.recordOutcome({ position: 3 });
      out.learned = (await learning.export()).records.correction?.num_updates;
      learning.free();
      there.free();
      out.codes.push(await codeOf(there.recommend(request)));
      here.free();
      return out;
    }, fixture.itemIds.slice(0, 3));
    for (const [onPage, inWorker] of [seen.lists, seen.ranked, seen.similar, seen.hash]) assert.equal(inWorker, onPage);
    assert.equal(JSON.parse(seen.ranked[0]).recommendations.length, 3);
    assert.equal(seen.heard, 3);
    assert.deepEqual(seen.late, ['deadline_exceeded', 'deadline_exceeded']);
    assert.equal(seen.preview, 'none');
    assert.deepEqual(seen.same, ['none', true, null]);
    assert.equal(seen.learned, 1, 'a correction is learned in the worker');
    assert.deepEqual(seen.codes, ['unknown_item', 'invalid_argument', 'invalid_argument', 'file_missing', 'invalid_argument', 'invalid_argument']);
  } finally {
    await opened.close();
  }
});

test('a consent that is taken back in one tab is taken back in all, which take over what is done in another', { skip: noBrowser }, async () => {
  const opened = await openPage(fixture);
  const tabs = [opened.page, await opened.context.newPage(), await opened.context.newPage()];
  const reports = [];
  opened.context.on('request', (request) => request.url().includes('/v1/reports') && reports.push(request.url()));
  try {
    for (const tab of tabs) {
      await tab.goto(opened.url);
      await tab.evaluate(async () => {
        const { Recommender } = await import(new URL('sanderling/dist/browser.js', location.href));
        window.recommender = await Recommender.load({ baseUrl: './bundle/', consent: 'share', collectorUrl: './collector/' });
      });
    }
    const [left, middle, right] = tabs;
    const observe = (tab, itemId) => tab.evaluate(async (id) => {
      window.recommender.observe({ itemId: id, kind: 'view' });
      await window.recommender.settled();
    }, itemId);
    const sessionOf = (tab) => tab.evaluate(() => window.recommender.session.map(({ itemId }) => itemId));
    await observe(left, fixture.itemIds[0]);
    await observe(middle, fixture.itemIds[1]);
    assert.deepEqual(await sessionOf(right), []);
    await right.evaluate(() => document.dispatchEvent(new Event('visibilitychange')));
    await right.waitForFunction(() => window.recommender.session.length === 2);
    assert.deepEqual(await sessionOf(right), fixture.itemIds.slice(0, 2));

    for (const tab of [middle, right]) {
      await tab.evaluate(() => {
        window.heard = 0;
        window.recommender.onChange(() => (window.heard += 1));
      });
    }
    const databases = () => left.evaluate(async () => (await indexedDB.databases()).map(({ name }) => name));
    assert.deepEqual(await databases(), ['sanderling']);
    await left.evaluate(() => window.recommender.setConsent('none'));
    assert.deepEqual(await databases(), []);
    for (const tab of [middle, right]) {
      await tab.waitForFunction(() => window.recommender.consent === 'none' && window.heard > 0);
      await observe(tab, fixture.itemIds[2]);
      const { records, notReportable, lists, storage } = await tab.evaluate(async () => {
        await window.recommender.erase();
        window.recommender.observe({ itemId: 'x', kind: 'view' });
        const { records, storage } = await window.recommender.export();
        const { notReportable } = await window.recommender.telemetry.flush();
        return { records, notReportable, storage, lists: window.recommender.recommend({ limit: 3 }).recommendations.length };
      });
      assert.deepEqual([records, lists, notReportable, storage], [{}, 3, 'consent', 'memory']);
    }
    assert.deepEqual(await databases(), [], 'nothing is begun anew');
    // Given again in one tab, it is not the others' before they are told.
    await left.evaluate(() => window.recommender.setConsent('device'));
    await observe(left, fixture.itemIds[3]);
    await observe(right, fixture.itemIds[4]);
    const stored = () => left.evaluate(async () => (await window.recommender.export()).records.session.map(({ item_id: id }) => id));
    assert.equal((await stored()).at(-1), fixture.itemIds[3]);
    await right.evaluate(() => window.recommender.setConsent('share'));
    await observe(right, fixture.itemIds[5]);
    assert.ok((await stored()).includes(fixture.itemIds[5]));
    const reportable = await right.evaluate(async () => {
      window.recommender.recommend({ limit: 3 });
      return (await window.recommender.telemetry.preview()).notReportable;
    });
    assert.equal(reportable, null);
    assert.deepEqual(reports, []);
    await left.evaluate(() => window.recommender.setConsent('none'));
    await right.waitForFunction(() => window.recommender.consent === 'none');
    assert.deepEqual(await databases(), []);
    await middle.evaluate(() => window.recommender.setConsent('device'));
    await observe(middle, fixture.itemIds[5]);
    assert.deepEqual(await databases(), ['sanderling']);
  } finally {
    await opened.close();
  }
});

test('an outcome is not lost when the click leads to another page', { skip: noBrowser }, async () => {
  const opened = await openPage(fixture);
  const { page } = opened;
  const outcomes = () => page.evaluate(async () => {
    const { Recommender } = await import(new URL('sanderling/dist/browser.js', location.href));
    const recommender = await Recommender.load({ baseUrl: './bundle/', consent: 'device' });
    const { state } = await recommender.telemetry.preview();
    const { counts } = state.current.fields.find(({ name }) => name === 'outcome.position');
    recommender.recommend({ limit: 5 });
    await recommender.settled();
    document.body.innerHTML = '<a href="?next">next</a>';
    document.querySelector('a').addEventListener('click', () => recommender.recordOutcome({ position: 1 }));
    return counts.reduce((sum, count) => sum + count);
  });
  try {
    assert.equal(await outcomes(), 0);
    for (let click = 0; click < 6; click += 1) {
      await Promise.all([page.waitForEvent('load'), page.click('a')]);
      await outcomes();
    }
    // A browser that is busy may end a page in the middle of a write.
    const kept = await outcomes();
    assert.ok(kept >= 3, `${kept} of 6`);
  } finally {
    await opened.close();
  }
});

test('a page opens the last good bundle where its folder is away or damaged', { skip: noBrowser }, async () => {
  const opened = await openPage(fixture);
  const { page } = opened;
  const visit = (options = {}) => page.evaluate(async (options) => {
    const { Recommender } = await import(new URL('sanderling/dist/browser.js', location.href));
    const kept = async () => ((await caches.has('sanderling-bundles')) ? (await (await caches.open('sanderling-bundles')).keys()).length : 0);
    try {
      const recommender = await Recommender.load({ baseUrl: './bundle/', ...options });
      const { isLastGood, hash } = recommender.bundle;
      const { length } = recommender.recommend({ limit: 5 }).recommendations;
      for (let tries = 0; tries < 100 && (await kept()) === 0 && options.consent !== 'none'; tries += 1) await new Promise((done) => setTimeout(done, 20));
      recommender.free();
      return { isLastGood, hash, length, kept: await kept() };
    } catch ({ code }) {
      return { code, kept: await kept() };
    }
  }, options);
  const answerWith = (answer) => page.route(/\/bundle\//, answer);
  try {
    const good = await visit();
    assert.deepEqual([good.isLastGood, good.length, good.kept], [false, 5, 1]);
    await answerWith((route) => route.abort());
    assert.deepEqual(await visit(), { ...good, isLastGood: true });
    // The platform hashes it, as it does what was fetched.
    const numHashed = await page.evaluate(async () => {
      const { Recommender } = await import(new URL('sanderling/dist/browser.js', location.href));
      const { digest } = crypto.subtle;
      let calls = 0;
      crypto.subtle.digest = (...args) => {
        calls += 1;
        return digest.apply(crypto.subtle, args);
      };
      try {
        (await Recommender.load('./bundle/')).free();
      } finally {
        crypto.subtle.digest = digest;
      }
      return calls;
    });
    assert.ok(numHashed > 1, `${numHashed} digests`);
    assert.equal((await visit({ keepBundle: false })).code, 'io');
    await page.unroute(/\/bundle\//);
    await answerWith((route) => (route.request().url().includes('vocabulary') ? route.fulfill({ body: '{}' }) : route.continue()));
    assert.deepEqual(await visit(), { ...good, isLastGood: true });
    // What was kept is no way around the key.
    assert.equal((await visit({ publicKey: '0'.repeat(64) })).code !== undefined, true);
    await page.unroute(/\/bundle\//);
    assert.equal((await visit()).isLastGood, false);
    // A server that does not answer is as good as none.
    await answerWith(() => {});
    const late = await page.evaluate(async () => {
      const { Recommender } = await import(new URL('sanderling/dist/browser.js', location.href));
      const loadIn = (signal, options = {}) => Recommender.load({ baseUrl: './bundle/', signal, ...options }).then(
        (recommender) => (recommender.free(), recommender.bundle.isLastGood), ({ code }) => code);
      const stopped = new AbortController();
      setTimeout(() => stopped.abort(), 100);
      return [await loadIn(AbortSignal.timeout(100)), await loadIn(AbortSignal.timeout(100), { keepBundle: false }), await loadIn(stopped.signal)];
    });
    assert.deepEqual(late, [true, 'io', 'cancelled']);
    // Nor does a page wait for an engine that does not come, once its time is up.
    const withoutEngine = await page.context().newPage();
    await withoutEngine.goto(page.url());
    await withoutEngine.route(/\/bundle\/|\.wasm$/, () => {});
    const code = await withoutEngine.evaluate(async () => {
      const { Recommender } = await import(new URL('sanderling/dist/browser.js', location.href));
      return Recommender.load({ baseUrl: './bundle/', signal: AbortSignal.timeout(100) }).then(() => 'loaded', (error) => error.code);
    });
    assert.equal(code, 'io');
    // It is the engine that is told of where the bundle is kept.
    await withoutEngine.unroute(/\/bundle\/|\.wasm$/);
    await withoutEngine.route(/\/bundle\/|\.wasm$/, (route) => route.abort());
    await withoutEngine.reload();
    const told = await withoutEngine.evaluate(async () => {
      const { Recommender } = await import(new URL('sanderling/dist/browser.js', location.href));
      return Recommender.load({ baseUrl: './bundle/' }).then(() => 'loaded', (error) => error.message);
    });
    assert.match(told, /\.wasm/);
    await withoutEngine.unroute(/\/bundle\/|\.wasm$/);
    // What is no engine is told of with its address.
    await withoutEngine.route(/\.wasm$/, (route) => route.fulfill({ body: '<!doctype html>', contentType: 'text/html' }));
    await withoutEngine.reload();
    const error = await withoutEngine.evaluate(async () => {
      const { Recommender } = await import(new URL('sanderling/dist/browser.js', location.href));
      return Recommender.load({ baseUrl: './bundle/' }).then(() => 'loaded', ({ code, details }) => ({ code, details }));
    });
    assert.equal(error.code, 'io');
    assert.match(error.details.found, /_bg\.wasm/);
    assert.match(error.details.hint, /README/);
    await withoutEngine.unroute(/\.wasm$/);
    await withoutEngine.route(/\/bundle\/|\.wasm$/, () => {});
    // Also where everything else is there in time.
    await withoutEngine.unroute(/\/bundle\/|\.wasm$/);
    await withoutEngine.route(/\.wasm$/, () => {});
    await withoutEngine.reload();
    const codes = await withoutEngine.evaluate(async () => {
      const { Recommender } = await import(new URL('sanderling/dist/browser.js', location.href));
      const stopped = new AbortController();
      const loads = [AbortSignal.timeout(300), stopped.signal].map((signal) => Recommender.load({ baseUrl: './bundle/', signal }).then(() => 'loaded', (error) => error.code));
      setTimeout(() => stopped.abort(), 300);
      return Promise.all(loads);
    });
    assert.deepEqual(codes, ['io', 'cancelled']);
    await withoutEngine.close();
    await page.unroute(/\/bundle\//);
    // Each folder keeps its own, up to four; those of a channel are one.
    await visit({ channelUrl: './channel.json' });
    await page.waitForFunction(async () => (await (await caches.open('sanderling-bundles')).keys()).length === 2);
    await answerWith((route) => route.abort());
    assert.deepEqual(await visit({ channelUrl: './channel.json' }), { ...good, isLastGood: true, kept: 2 });
    assert.equal((await visit({ channelUrl: './channel.json?of=another' })).code, 'io');
    // Where the channel cannot be read nobody knows a folder.
    const channelAlone = { baseUrl: undefined, channelUrl: './channel.json#fragment' };
    assert.deepEqual(await visit(channelAlone), { ...good, isLastGood: true, kept: 2 });
    assert.equal((await visit({ ...channelAlone, keepBundle: false })).code, 'not_found');
    assert.equal((await visit({ ...channelAlone, channelUrl: './channel.json?of=another' })).code, 'not_found');
    await page.unroute(/\/bundle\//);
    await page.evaluate(async () => {
      const cache = await caches.open('sanderling-bundles');
      for (const release of '1234') await cache.put(new URL(`releases/${release}/`, location.href).href, new Response(''));
    });
    assert.equal((await visit()).kept, 6, 'what is there already is not kept again');
    await page.evaluate(() => caches.delete('sanderling-bundles'));
    await page.evaluate(async () => {
      const cache = await caches.open('sanderling-bundles');
      for (const release of '1234') await cache.put(new URL(`releases/${release}/`, location.href).href, new Response(''));
    });
    await visit();
    await page.waitForFunction(async () => {
      const kept = (await (await caches.open('sanderling-bundles')).keys()).map(({ url }) => url.split('/').slice(-3, -1).join('/'));
      return kept.length === 4 && !kept.includes('releases/1') && kept.at(-1).endsWith('bundle');
    });
    assert.deepEqual((await visit({ consent: 'none' })).kept, 0, 'nothing stays without consent');
    await answerWith((route) => route.abort());
    assert.deepEqual(await visit({ consent: 'none' }), { code: 'io', kept: 0 });
  } finally {
    await opened.close();
  }
});
