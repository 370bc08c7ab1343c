// The custom element and the React hooks, in a real browser and on a server.
import assert from 'node:assert/strict';
import { cp, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { pathToFileURL } from 'node:url';

import { findBrowser } from '../../www/tools/browser.mjs';
import { openPage } from './lib/chromium.mjs';
import { openFixture } from './lib/fixture.mjs';
import { WWW } from './lib/paths.mjs';

const noBrowser = findBrowser() === undefined && 'no Chromium is installed';
const require = createRequire(join(WWW, 'package.json'));
const { build } = require('esbuild');
let fixture;

before(async () => {
  fixture = await openFixture();
});

after(() => fixture.engine.free());

/** Bundles a page's script as a site would, with the packed package and the React of this tree. */
async function bundlePage(root, contents) {
  await build({
    stdin: { contents, resolveDir: fixture.project, loader: 'jsx' },
    bundle: true, format: 'esm', outfile: join(root, 'page.js'), jsx: 'automatic', logLevel: 'error',
    nodePaths: [join(WWW, 'node_modules')], define: { 'process.env.NODE_ENV': '"development"' },
  });
}

/** Shows a page and gives what `look` sees in it; what the page logs as an error fails. */
async function inPage(markup, script, look) {
  const opened = await openPage(fixture);
  const errors = [];
  opened.page.on('pageerror', (error) => errors.push(error.message));
  opened.page.on('console', (message) => message.type() === 'error' && errors.push(message.text()));
  try {
    await bundlePage(opened.root, script);
    // esbuild leaves the address of the wasm file as it is: one folder above the page's script.
    await cp(join(opened.root, 'sanderling/wasm'), join(opened.root, 'wasm'), { recursive: true });
    const html = `<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,">${markup}<script type="module" src="page.js"></script>`;
    await writeFile(join(opened.root, 'shop.html'), html);
    await opened.page.goto(new URL('shop.html', opened.url).href);
    await look(opened.page);
    assert.deepEqual(errors, []);
  } finally {
    await opened.close();
  }
}

test('the element lists, follows the session, tells of clicks, and frees', { skip: noBrowser }, async () => {
  const markup = `
    <sanderling-recommendations base-url="./bundle/" limit="4" consent="none">
      <template><a data-item-href="#/item/{itemId}"><b data-item-id></b> <i data-reason></i></a></template>
    </sanderling-recommendations>`;
  const script = `
    import 'sanderling/element';
    window.told = [];
    for (const type of ['ready', 'list', 'item', 'choose', 'error']) {
      document.addEventListener('sanderling:' + type, ({ detail }) => told.push([type, detail]));
    }
  `;
  await inPage(markup, script, async (page) => {
    const links = page.locator('sanderling-recommendations a');
    await links.nth(3).waitFor();
    assert.equal(await links.count(), 4);
    const [first] = await links.evaluateAll((all) => all.map((link) => [link.getAttribute('href'), link.innerText]));
    assert.match(first[0], /^#\/item\/./);
    assert.match(first[1], /popular$/, 'there is no session yet');
    await links.nth(1).click();
    await page.waitForFunction(() => document.querySelector('sanderling-recommendations i').textContent.startsWith('because you viewed'));
    const { session, types } = await page.evaluate(() => ({
      session: document.querySelector('sanderling-recommendations').recommender.session,
      types: told.map(([type]) => type),
    }));
    assert.deepEqual(session.map(({ kind }) => kind), ['click']);
    assert.deepEqual(types.filter((type) => type !== 'item'), ['ready', 'list', 'choose', 'list']);
    assert.equal(types.filter((type) => type === 'item').length, 8);
    await page.evaluate(() => {
      const element = document.querySelector('sanderling-recommendations');
      element.options = { rules: { exclude: [element.recommender.recommend({ limit: 1 }).recommendations[0].itemId] } };
      element.setAttribute('limit', '2');
    });
    await page.waitForFunction(() => document.querySelectorAll('sanderling-recommendations a').length === 2);
    const isFreed = await page.evaluate(() => {
      const element = document.querySelector('sanderling-recommendations');
      const { recommender } = element;
      element.remove();
      try {
        recommender.recommend();
        return false;
      } catch ({ code }) {
        return code === 'invalid_argument' && element.recommender === undefined && element.querySelector('a') === null;
      }
    });
    assert.ok(isFreed);
    // A folder that is not there is told of; the page's own console stays its own.
    await page.evaluate(() => {
      const element = document.createElement('sanderling-recommendations');
      element.setAttribute('base-url', 'data:,');
      element.addEventListener('sanderling:error', (event) => event.preventDefault());
      document.body.append(element);
    });
    await page.waitForFunction(() => told.some(([type]) => type === 'error'));
  });
});

test('elements show lists of one recommender, which stays the page\'s; an error that nobody takes is logged', { skip: noBrowser }, async () => {
  const markup = `
    <sanderling-recommendations id="left" base-url="./bundle/"></sanderling-recommendations><sanderling-recommendations id="right" limit="3"></sanderling-recommendations>
    <sanderling-recommendations id="signed" base-url="./bundle/"></sanderling-recommendations>`;
  const script = `
    import { Recommender } from 'sanderling';
    const elements = [...document.querySelectorAll('sanderling-recommendations')];
    const [left, right, signed] = elements;
    signed.loadOptions = { publicKey: 'none' };
    const refused = new Promise((told) => signed.addEventListener('sanderling:error', (event) => (event.preventDefault(), told(event.detail.code))));
    const first = await Recommender.load({ baseUrl: './bundle/', consent: 'none' });
    // Before the element is defined, and after.
    left.recommender = first;
    await import('sanderling/element');
    right.recommender = first;
    const settled = () => new Promise((done) => setTimeout(done, 50));
    const lengths = () => elements.map((element) => element.querySelectorAll('div').length);
    await refused;
    window.found = { signed: [await refused, signed.querySelectorAll('div').length], given: left.recommender === first, lists: lengths().slice(0, 2) };
    left.querySelector('div').click();
    await settled();
    const clicked = first.session[0].itemId;
    window.found.both = [left, right].map((element) => element.querySelector('[data-item-id="' + clicked + '"]') === null);
    const second = await Recommender.load({ baseUrl: './bundle/', consent: 'none' });
    right.recommender = second;
    left.remove();
    await settled();
    window.found.alive = [first.recommend({ limit: 1 }).recommendations.length, lengths()[0], right.recommender === second];
    right.recommender = null;
    window.found.empty = [lengths()[1], right.recommender === undefined, second.recommend({ limit: 1 }).recommendations.length];
    // What it has loaded by itself becomes the page's where the page takes it.
    right.addEventListener('sanderling:ready', () => (right.recommender = right.recommender), { once: true });
    right.setAttribute('base-url', './bundle/');
    await new Promise((done) => right.addEventListener('sanderling:list', done, { once: true }));
    const own = right.recommender;
    right.remove();
    await settled();
    window.found.taken = own.recommend({ limit: 1 }).recommendations.length;
    document.body.append(right);
    const logged = [];
    console.error = (error) => logged.push(error.code);
    const wrong = { baseUrl: './', publickey: 'misspelt' };
    // A click on what was freed, and something that is no recommender.
    await settled();
    own.free();
    right.querySelector('div').click();
    right.recommender = {};
    right.removeAttribute('base-url');
    right.recommender = undefined;
    right.loadOptions = wrong;
    await settled();
    right.addEventListener('sanderling:error', (event) => event.preventDefault());
    right.loadOptions = { ...wrong };
    await settled();
    window.found.logged = logged;
    window.done = true;
  `;
  await inPage(markup, script, async (page) => {
    await page.waitForFunction('window.done');
    assert.deepEqual(await page.evaluate('found'), {
      signed: ['invalid_argument', 0], given: true, lists: [10, 3], both: [true, true], alive: [1, 0, true], empty: [0, true, 1], taken: 1,
      logged: ['invalid_argument', 'internal', 'invalid_argument'],
    });
  });
});

test('the element takes what was set before it was defined, follows its consent, and leaves what is clicked where it is', { skip: noBrowser }, async () => {
  const [left] = fixture.itemIds;
  const markup = `
    <sanderling-recommendations base-url="./bundle/" limit="3" consent="device"></sanderling-recommendations>
    <script>
      const element = document.querySelector('sanderling-recommendations');
      element.options = { rules: { only: ${JSON.stringify([left])} } };
      document.addEventListener('click', ({ target }) => (window.inside = element.contains(target)));
    </script>`;
  await inPage(markup, "import 'sanderling/element';", async (page) => {
    const shown = page.locator('sanderling-recommendations [data-item-id]');
    await shown.first().waitFor();
    assert.deepEqual(await shown.allInnerTexts(), [left]);
    await page.evaluate(() => (window.first = document.querySelector('[data-item-id]')));
    await shown.first().click();
    assert.equal(await page.evaluate(() => window.inside), true);
    const consents = await page.evaluate(async () => {
      const { recommender } = element;
      const found = [recommender.consent];
      element.setAttribute('consent', 'none');
      found.push(recommender.consent);
      element.removeAttribute('consent');
      found.push(recommender.consent);
      await recommender.settled();
      // While it loads, it is begun anew.
      element.setAttribute('base-url', './bundle/?again');
      element.setAttribute('consent', 'none');
      const ready = new Promise((done) => element.addEventListener('sanderling:ready', done, { once: true }));
      await ready;
      return [...found, element.recommender.consent];
    });
    assert.deepEqual(consents, ['device', 'none', 'device', 'none']);
  });
});

test('the element keeps the nodes of items that stay, and the focus', { skip: noBrowser }, async () => {
  const markup = `
    <sanderling-recommendations base-url="./bundle/" limit="6" consent="none">
      <template><button data-item-id></button> <i data-reason></i></template>
    </sanderling-recommendations>`;
  const script = `
    import 'sanderling/element';
    window.element = document.querySelector('sanderling-recommendations');
    window.lists = 0;
    element.addEventListener('sanderling:list', () => (window.lists += 1));
    element.addEventListener('sanderling:choose', (event) => event.preventDefault());
  `;
  await inPage(markup, script, async (page) => {
    const buttons = page.locator('sanderling-recommendations button');
    await buttons.nth(5).waitFor();
    const shown = await buttons.allInnerTexts();
    await buttons.nth(2).focus();
    await page.evaluate(() => (window.nodes = [...element.querySelectorAll('div')]));
    // Another first item, and one less: the others move up.
    const wanted = [shown[5], shown[2], shown[0], shown[3]];
    await page.evaluate((only) => {
      element.options = { rules: { only, pins: only.map((itemId, at) => ({ itemId, position: at + 1 })) } };
    }, wanted);
    await page.waitForFunction(() => element.querySelectorAll('div').length === 4);
    assert.deepEqual(await buttons.allInnerTexts(), wanted);
    const { sameNodes, focused } = await page.evaluate(() => ({
      sameNodes: [...element.querySelectorAll('div')].map((node) => window.nodes.indexOf(node)),
      focused: document.activeElement.textContent,
    }));
    assert.deepEqual(sameNodes, [5, 2, 0, 3]);
    assert.equal(focused, shown[2]);
    // The position of a click is that of the list that is shown now.
    const chosen = page.evaluate(() => new Promise((told) => element.addEventListener('sanderling:choose', ({ detail }) => told(detail.recommendation.position))));
    await buttons.nth(1).click();
    assert.equal(await chosen, 2);
    // What no attribute has.
    const code = await page.evaluate(() => new Promise((told) => {
      element.addEventListener('sanderling:error', (event) => {
        event.preventDefault();
        told(event.detail.code);
      });
      element.loadOptions = { minRollbackIndex: 99 };
    }));
    assert.equal(code, 'bundle_rolled_back');
  });
});

test('React renders the list anew when the session changes, under StrictMode too', { skip: noBrowser }, async () => {
  const script = `
    import { StrictMode, useEffect } from 'react';
    import { createRoot } from 'react-dom/client';
    import { useRecommendations, useRecommender } from 'sanderling/react';
    function ForYou() {
      const { recommender, error } = useRecommender({ baseUrl: './bundle/', consent: 'none' });
      const { recommendations } = useRecommendations(recommender, { limit: 3 });
      window.recommender = recommender;
      // Cleaned up behind the hook, and may use the recommender still.
      useEffect(() => () => recommender?.recordOutcome(), [recommender]);
      return <ul data-error={error?.code}>{recommendations.map(({ itemId, source }) => <li key={itemId} data-source={source}>{itemId}</li>)}</ul>;
    }
    const root = createRoot(document.getElementById('root'));
    root.render(<StrictMode><ForYou /></StrictMode>);
    window.leave = () => root.unmount();
  `;
  await inPage('<div id="root"></div>', script, async (page) => {
    await page.locator('li').nth(2).waitFor();
    assert.equal(await page.locator('li[data-source=fallback]').count(), 3);
    await page.evaluate((itemId) => window.recommender.observe({ itemId, kind: 'view' }), fixture.itemIds[3]);
    await page.locator('li[data-source=retrieval]').nth(2).waitFor();
    const code = await page.evaluate(async () => {
      const { recommender } = window;
      window.leave();
      await new Promise((done) => setTimeout(done, 20));
      try {
        return recommender.recommend();
      } catch (error) {
        return error.code;
      }
    });
    assert.equal(code, 'invalid_argument', 'it is freed with the component');
  });
});

test('React follows the consent, loads once whatever is written in place, and shares one recommender', { skip: noBrowser }, async () => {
  const script = `
    import { useState } from 'react';
    import { createRoot } from 'react-dom/client';
    import { useRecommender } from 'sanderling/react';
    window.loads = new Set();
    function Shop({ files }) {
      const [consent, setConsent] = useState('device');
      const { recommender, error } = useRecommender({ files: { ...files }, consent });
      window.recommender = recommender;
      window.change = setConsent;
      if (recommender !== undefined) window.loads.add(recommender);
      return <p data-error={error?.code}>{recommender?.consent} {window.loads.size}</p>;
    }
    const names = ['manifest.json', ...Object.values((await (await fetch('./bundle/manifest.json')).json()).files).map(({ path }) => path)];
    const files = Object.fromEntries(await Promise.all(names.map(async (name) => [name, await (await fetch('./bundle/' + name)).arrayBuffer()])));
    createRoot(document.getElementById('root')).render(<Shop files={files} />);
  `;
  await inPage('<div id="root"></div>', script, async (page) => {
    await page.locator('p', { hasText: 'device 1' }).waitFor();
    for (const consent of ['none', 'share', 'none']) {
      await page.evaluate((to) => window.change(to), consent);
      await page.waitForFunction((to) => window.recommender.consent === to, consent);
    }
    assert.equal(await page.evaluate(() => window.loads.size), 1);
  });
});

test('on a server the hooks load nothing and the list is empty', async () => {
  const script = `
    import { renderToString } from 'react-dom/server';
    import { useRecommendations, useRecommender } from 'sanderling/react';
    function ForYou() {
      const { recommender } = useRecommender('/bundle/');
      const { recommendations } = useRecommendations(recommender, { limit: 3 });
      return <p>{String(recommender)} {recommendations.length}</p>;
    }
    export default () => renderToString(<ForYou />);
  `;
  const outfile = join(fixture.project, 'server.mjs');
  await build({
    stdin: { contents: script, resolveDir: fixture.project, loader: 'jsx' }, bundle: true, format: 'esm', platform: 'node', outfile,
    jsx: 'automatic', logLevel: 'error', nodePaths: [join(WWW, 'node_modules')],
    banner: { js: "import { createRequire } from 'node:module'; const require = createRequire(import.meta.url);" },
  });
  const { default: render } = await import(pathToFileURL(outfile).href);
  assert.equal(render(), '<p>undefined<!-- --> <!-- -->0</p>');
});

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
