// Downloads and latency: `node bench.mjs [--out DIR] [--items N] [--calls N]`. Trains one epoch on a generated world of
// N items, then times recommend() over its bundle in Chromium, or in Node where no browser is found. The weights do not
// matter for time, so one epoch is enough. The bundle is kept and used again by the program that made it.
import { createHash } from 'node:crypto';
import { access, mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { Recommender } from '../pkg/dist/node.js';
import { findBrowser, launch } from '../tools/browser.mjs';
import { readFlags } from '../tools/flags.mjs';
import { serve } from '../tools/serve.mjs';
import { assemble } from '../tools/site.mjs';
import { measure as measureSizes } from '../tools/sizes.mjs';
import { PROGRAM, sanderling } from './cli.mjs';
import { measure } from './measure.js';
import * as print from './print.mjs';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));

const flags = readFlags({
  out: { default: join(ROOT, 'build', 'bench') },
  items: { default: '10000' },
  calls: { default: '400' },
});

async function makeBundle() {
  const program = createHash('sha256').update(await readFile(PROGRAM)).digest('hex').slice(0, 12);
  const bundle = join(flags.out, `bundle-${flags.items}-${program}`);
  const kept = await access(join(bundle, 'manifest.json')).then(() => true, () => false);
  if (kept) return bundle;
  print.step(`training one epoch on a generated world of ${flags.items} items`);
  const world = join(flags.out, `world-${flags.items}`);
  await sanderling('synth', '--items', flags.items, '--users', 6000, '--days', 60, '--out', world);
  await sanderling('train', world, '--name', 'bench', '--max-epochs', 1, '--out', bundle);
  return bundle;
}

async function inBrowser(bundle) {
  const catalogue = join(flags.out, 'catalogue.json');
  await writeFile(catalogue, '[]');
  const { url, close } = await serve({ root: await assemble({ out: join(flags.out, 'site'), bundle, catalogue }) });
  const browser = await launch();
  try {
    const page = await browser.context.newPage();
    await page.goto(new URL(`bench.html?calls=${flags.calls}`, url).href);
    return { where: browser.version, timings: await page.evaluate(() => window.__bench) };
  } finally {
    await browser.close();
    await close();
  }
}

async function inNode(bundle) {
  const recommender = await Recommender.load({ baseUrl: bundle, consent: 'none' });
  const { engine } = recommender;
  const itemIds = Array.from({ length: engine.len() }, (_, row) => engine.itemId(row));
  const timings = await measure(recommender, itemIds, Number(flags.calls));
  recommender.free();
  return { where: `Node ${process.version} (no browser was found)`, timings };
}

await mkdir(flags.out, { recursive: true });
const bundle = await makeBundle();
const { shapes } = JSON.parse(await readFile(join(bundle, 'manifest.json'), 'utf8'));
print.step('size');
print.sizes(await measureSizes());
print.step(`recommend() over ${shapes.num_items} items`);
const { where, timings } = findBrowser() === undefined ? await inNode(bundle) : await inBrowser(bundle);
print.line(`${where}: ${JSON.stringify(timings)}`);
