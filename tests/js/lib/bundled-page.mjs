// A page with a script that was bundled as a site would, in a real browser.
import assert from 'node:assert/strict';
import { cp, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { findBrowser } from '../../../www/tools/browser.mjs';
import { openPage } from './chromium.mjs';
import { importTool, WWW } from './paths.mjs';

/** Why tests in a browser are skipped, if they are. */
export const noBrowser = findBrowser() === undefined && 'no Chromium is installed';
const { build } = await importTool('esbuild');

/** Bundles a page's script as a site would, with the packed package and the React of this tree. */
async function bundlePage({ project }, root, contents) {
  await build({
    stdin: { contents, resolveDir: project, loader: 'jsx' },
    bundle: true, format: 'esm', outfile: join(root, 'page.js'), jsx: 'automatic', logLevel: 'error',
    nodePaths: [join(WWW, 'node_modules')], define: { 'process.env.NODE_ENV': '"development"' },
  });
}

/** Shows a page and gives what `look` sees in it; what the page logs as an error fails. */
export async function inPage(fixture, markup, script, look) {
  const opened = await openPage(fixture);
  const errors = [];
  opened.page.on('pageerror', (error) => errors.push(error.message));
  opened.page.on('console', (message) => message.type() === 'error' && errors.push(message.text()));
  try {
    await bundlePage(fixture, opened.root, script);
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
