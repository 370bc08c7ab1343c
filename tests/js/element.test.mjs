// The custom element, in a real browser.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import { inPage, noBrowser } from './lib/bundled-page.mjs';
import { openFixture } from './lib/fixture.mjs';

let fixture;

before(async () => {
  fixture = await openFixture();
});

after(() => fixture.engine.free());

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
  await inPage(fixture, markup, script, async (page) => {
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
  await inPage(fixture, markup, script, async (page) => {
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
  await inPage(fixture, markup, "import 'sanderling/element';", async (page) => {
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
  await inPage(fixture, markup, script, async (page) => {
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
