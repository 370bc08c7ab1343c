// A small application with the packed package, as each bundler, a framework and no bundler at all bring it to a real browser.
import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { cp, mkdir, mkdtemp, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';

import { findBrowser, launch } from '../../www/tools/browser.mjs';
import { serve } from '../../www/tools/serve.mjs';
import { startVite, withEsbuild, withRollup, withVite, withWebpack } from './bundlers/builds.mjs';
import { openFixture } from './lib/fixture.mjs';
import { otherPath, OTHERS } from './lib/paths.mjs';

const run = promisify(execFile);
const noBrowser = findBrowser() === undefined && 'no Chromium is installed';
const NOW = 1_700_000_100;
const PAGE = `
  <!doctype html><meta charset="utf-8"><title>shop</title><link rel="icon" href="data:,">
  <script type="module" src="./main.js"></script>
`;

let fixture;
let browser;
let apps;
let request;
let expected;

before(async () => {
  fixture = await openFixture();
  const session = fixture.itemIds.slice(0, 4).map((itemId, step) => ({ itemId, kind: 'view', timestamp: NOW - 100 + step }));
  request = { session, limit: 10, now: NOW, seed: 7 };
  const recommender = await fixture.load();
  expected = idsOf(recommender.recommend(request));
  assert.equal(expected.length, 10);
  // Beside the tools, so that a framework is found there, as it is in a project of its own.
  apps = await mkdtemp(join(OTHERS, 'app-'));
  await cp(join(fixture.project, 'node_modules'), join(apps, 'node_modules'), { recursive: true });
  if (noBrowser === false) browser = await launch();
});

after(async () => {
  fixture.engine.free();
  await browser?.close();
  await rm(apps, { recursive: true, force: true });
});

const idsOf = ({ recommendations, faults }) => {
  assert.deepEqual(faults, []);
  return recommendations.map(({ itemId }) => itemId);
};

/** The script of a page that makes a list, and another one in a worker. */
const script = (wasm = '') => `
  import { Recommender } from 'sanderling';
  ${wasm && "import wasm from 'sanderling/wasm';"}
  const request = ${JSON.stringify(request)};
  const options = { baseUrl: './bundle/', consent: 'none'${wasm} };
  const idsOf = ({ recommendations }) => recommendations.map(({ itemId }) => itemId);
  async function show() {
    const recommender = await Recommender.load(options);
    const onPage = idsOf(recommender.recommend(request));
    recommender.free();
    const worker = await Recommender.inWorker(options);
    const inWorker = idsOf(await worker.recommend(request));
    worker.free();
    return { onPage, inWorker };
  }
  show().then((lists) => (window.lists = lists), (error) => console.error(error));
`;

/** Writes the files of an application into a folder of its own. */
async function writeApp(name, files) {
  const app = join(apps, name);
  for (const [path, text] of Object.entries(files)) {
    await mkdir(join(app, path, '..'), { recursive: true });
    await writeFile(join(app, path), text);
  }
  return app;
}

const addBundle = (folder) => cp(fixture.bundle, join(folder, 'bundle'), { recursive: true });

/** Opens an address and gives what `look` finds and the sizes of the engines that were fetched; fails for what the page logs as an error. */
async function visit(url, look) {
  const page = await browser.context.newPage();
  const errors = [];
  const engines = new Set();
  page.on('pageerror', (error) => errors.push(error.message));
  page.on('console', (message) => message.type() === 'error' && errors.push(message.text()));
  page.on('response', (response) => response.url().includes('.wasm') && engines.add(Number(response.headers()['content-length'])));
  try {
    await page.goto(url);
    const found = await look(page).catch((error) => assert.fail([...errors, error.message].join('\n')));
    assert.deepEqual(errors, []);
    return { found, engines: [...engines] };
  } finally {
    await page.close();
  }
}

const listsOf = async (page) => (await page.waitForFunction(() => window.lists, undefined, { timeout: 15_000 })).jsonValue();

/** The lists that the page of a folder shows, which must have fetched one build of the slim engine and no other. */
async function listsIn(root) {
  const server = await serve({ root });
  try {
    const { found, engines } = await visit(`${server.url}/`, listsOf);
    const slim = ['quads', 'pairs', 'wasm', 'scalar'].map((build) => stat(join(apps, `node_modules/sanderling/wasm/sanderling_${build}_bg.wasm`)));
    assert.equal(engines.length, 1);
    assert.ok((await Promise.all(slim)).some(({ size }) => size === engines[0]), `${engines[0]} bytes`);
    return found;
  } finally {
    await server.close();
  }
}

const BUILDS = {
  'Vite 8': withVite('Vite 8'), 'Vite 7': withVite('Vite 7'), webpack: withWebpack, Rollup: withRollup, esbuild: withEsbuild,
};
for (const [name, build] of Object.entries(BUILDS)) {
  test(`what ${name} builds lists as Node does, on the page and in a worker`, { skip: noBrowser }, async () => {
    const wasm = name === 'esbuild' ? ', wasm: new URL(wasm, import.meta.url)' : '';
    const app = await writeApp(`built-${name}`, { 'index.html': PAGE, 'main.js': script(wasm) });
    await build(app);
    await addBundle(join(app, 'out'));
    assert.deepEqual(await listsIn(join(app, 'out')), { onPage: expected, inWorker: expected });
  });
}

for (const name of ['Vite 8', 'Vite 7']) {
  test(`the development server of ${name} gives the same lists`, { skip: noBrowser }, async () => {
    const app = await writeApp(`served-${name}`, { 'index.html': PAGE, 'main.js': script() });
    await addBundle(join(app, 'public'));
    const server = await startVite(name, app);
    try {
      assert.deepEqual((await visit(server.url, listsOf)).found, { onPage: expected, inWorker: expected });
    } finally {
      await server.close();
    }
  });
}

test('a page without a bundler needs an import map and nothing else', { skip: noBrowser }, async () => {
  const map = '<script type="importmap">{ "imports": { "sanderling": "./sanderling/dist/browser.js" } }</script>';
  const app = await writeApp('plain', { 'index.html': PAGE.replace('<script', `${map}$&`), 'main.js': script() });
  await addBundle(app);
  await cp(join(apps, 'node_modules/sanderling'), join(app, 'sanderling'), { recursive: true });
  assert.deepEqual(await listsIn(app), { onPage: expected, inWorker: expected });
});

for (const entry of ['browser', 'browser-full']) {
  test(`a service worker with the entry ${entry} answers a request with a list`, { skip: noBrowser }, async () => {
    const worker = `
      import { Recommender } from './sanderling/dist/${entry}.js';
      let loading;
      addEventListener('activate', (event) => event.waitUntil(clients.claim()));
      addEventListener('fetch', (event) => {
        if (!event.request.url.endsWith('/list')) return;
        loading ??= Recommender.load('./bundle/');
        event.respondWith(loading.then((recommender) => Response.json(recommender.recommend(${JSON.stringify(request)}))));
      });
    `;
    const app = await writeApp(`service-${entry}`, { 'index.html': PAGE, 'main.js': '', 'service-worker.js': worker });
    await addBundle(app);
    await cp(join(apps, 'node_modules/sanderling'), join(app, 'sanderling'), { recursive: true });
    const server = await serve({ root: app });
    try {
      const { found } = await visit(`${server.url}/`, (page) => page.evaluate(async () => {
        const { serviceWorker } = navigator;
        const controlled = new Promise((resolve) => serviceWorker.addEventListener('controllerchange', resolve));
        await serviceWorker.register('service-worker.js', { type: 'module' });
        await controlled;
        return (await fetch('list')).json();
      }));
      assert.deepEqual(idsOf(found), expected);
    } finally {
      await server.close();
    }
  });
}

test('Next.js renders a list on the server, and the hooks give the same one in the browser', { skip: noBrowser }, async () => {
  const forYou = `
    'use client';
    import { RecommenderError } from 'sanderling';
    import { useRecommendations, useRecommender } from 'sanderling/react';
    export function ForYou({ request }) {
      const { recommender, error } = useRecommender({ baseUrl: '/bundle/', consent: 'none' });
      const { recommendations } = useRecommendations(recommender, request);
      if (error instanceof RecommenderError) return <p>{error.message}</p>;
      return <ul>{recommendations.map(({ itemId }) => <li key={itemId}>{itemId}</li>)}</ul>;
    }
  `;
  const page = `
    import { Recommender } from 'sanderling';
    import { ForYou } from './for-you.jsx';
    export const dynamic = 'force-dynamic';
    export default async function Page() {
      const request = ${JSON.stringify(request)};
      const recommender = await Recommender.load({ baseUrl: 'public/bundle', consent: 'none' });
      const { recommendations } = recommender.recommend(request);
      recommender.free();
      return <><ol>{recommendations.map(({ itemId }) => <li key={itemId}>{itemId}</li>)}</ol><ForYou request={request} /></>;
    }
  `;
  const layout = `
    export const metadata = { icons: 'data:,' };
    export default function Layout({ children }) {
      return <html lang="en"><body>{children}</body></html>;
    }
  `;
  const app = await writeApp('next', {
    'package.json': '{ "private": true, "type": "module" }', 'app/layout.jsx': layout, 'app/page.jsx': page, 'app/for-you.jsx': forYou,
  });
  await addBundle(join(app, 'public'));
  const server = await startNext(app);
  try {
    const html = await (await fetch(server.url)).text();
    const rendered = [...html.matchAll(/<li>(.*?)<\/li>/g)].map(([, itemId]) => itemId);
    assert.deepEqual(rendered, expected, 'the list of the server, and none of the hooks');
    const { found } = await visit(server.url, async (opened) => {
      await opened.locator('ul li').first().waitFor({ timeout: 15_000 });
      return opened.locator('ul li').allTextContents();
    });
    assert.deepEqual(found, expected);
    assert.equal(server.problems(), '');
  } finally {
    await server.close();
  }
});

/** Builds an application with Next.js and starts its server; resolves to its URL, what it complains about and a function that stops it. */
async function startNext(app) {
  const options = { cwd: app, env: { ...process.env, NEXT_TELEMETRY_DISABLED: '1', NODE_ENV: 'production' } };
  const next = otherPath('next/dist/bin/next');
  await run(process.execPath, [next, 'build'], options).catch((error) => assert.fail(`${error.stdout}${error.stderr}`));
  const args = [next, 'start', '--hostname', '127.0.0.1', '--port', '0'];
  const child = spawn(process.execPath, args, { ...options, stdio: ['ignore', 'pipe', 'pipe'] });
  let [told, problems] = ['', ''];
  child.stderr.on('data', (text) => (problems += text));
  const url = await new Promise((resolve, reject) => {
    child.on('exit', () => reject(new Error(`the server ended: ${told}${problems}`)));
    child.stdout.on('data', (text) => {
      told += text;
      const [found] = told.match(/http:\/\/127\.0\.0\.1:\d+/) ?? [];
      if (found !== undefined && told.includes('Ready')) resolve(found);
    });
  });
  const ended = new Promise((resolve) => child.on('exit', resolve));
  const close = () => {
    child.kill();
    return ended;
  };
  return { url, problems: () => problems, close };
}
