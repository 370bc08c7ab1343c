import { cp, mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { launch } from '../../../www/tools/browser.mjs';
import { serve } from '../../../www/tools/serve.mjs';

const EXECUTE = fileURLToPath(new URL('execute.mjs', import.meta.url));
const PAGE = '<!doctype html><meta charset="utf-8"><title>conformance</title><link rel="icon" href="data:,">';

/** Serves an empty page that has the installed package beside it. */
export async function servePage({ project, bundle }) {
  const root = await mkdtemp(join(tmpdir(), 'sanderling-page-'));
  await mkdir(join(root, 'bundle'));
  await cp(join(project, 'node_modules', 'sanderling'), join(root, 'sanderling'), { recursive: true });
  await cp(bundle, join(root, 'bundle'), { recursive: true });
  await cp(EXECUTE, join(root, 'execute.mjs'));
  await writeFile(join(root, 'index.html'), PAGE);
  const server = await serve({ root });
  const close = async () => {
    await server.close();
    await rm(root, { recursive: true, force: true });
  };
  return { url: `${server.url}/`, root, close };
}

/** Opens that page in a real browser. */
export async function openPage({ project, bundle, launchOptions = {} }) {
  const { url, root, close: closeServer } = await servePage({ project, bundle });
  const browser = await launch(launchOptions);
  const page = browser.context.pages()[0] ?? (await browser.context.newPage());
  await page.goto(url);
  const close = async () => {
    await browser.close();
    await closeServer();
  };
  return { page, context: browser.context, url, root, close };
}

/** Opens a real browser as a runtime for operations. */
export async function openChromium(options) {
  const { page, close } = await openPage(options);
  const names = await readdir(options.bundle);
  const run = (operations) => page.evaluate(runInPage, { names, operations: JSON.stringify(operations) }).then(JSON.parse);
  return { run, close };
}

/** Runs in the page: what it closes over must come through its argument. */
export async function runInPage({ names, operations }) {
  const sanderling = await import(new URL('sanderling/dist/browser.js', location.href));
  const { execute } = await import(new URL('execute.mjs', location.href));
  const contents = names.map(async (name) => [name, new Uint8Array(await (await fetch(`bundle/${name}`)).arrayBuffer())]);
  const files = Object.fromEntries(await Promise.all(contents));
  return JSON.stringify(await execute(sanderling, files, JSON.parse(operations)));
}
