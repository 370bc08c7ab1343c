// The React hooks, in a real browser and on a server.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { pathToFileURL } from 'node:url';

import { inPage, noBrowser } from './lib/bundled-page.mjs';
import { openFixture } from './lib/fixture.mjs';
import { importTool, WWW } from './lib/paths.mjs';

const { build } = await importTool('esbuild');
let fixture;

before(async () => {
  fixture = await openFixture();
});

after(() => fixture.engine.free());

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
  await inPage(fixture, '<div id="root"></div>', script, async (page) => {
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
  await inPage(fixture, '<div id="root"></div>', script, async (page) => {
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
