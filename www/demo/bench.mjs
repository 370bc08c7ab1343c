// Sizes of the downloads and latency of recommend() in a real browser: `node bench.mjs [--items N] [--calls N]`.
// Trains a bundle of N items of the generated world (a few passes: weights do not change the time of a call).
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { findBrowser, launch } from '../tools/browser.mjs';
import { readFlags } from '../tools/flags.mjs';
import { serve } from '../tools/serve.mjs';
import { assemble } from '../tools/site.mjs';
import { measure } from '../tools/sizes.mjs';
import { sanderling } from './cli.mjs';
import * as print from './print.mjs';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const OUT = join(ROOT, 'build', 'bench');
const flags = readFlags({ items: { default: '10000' }, calls: { default: '240' } });

await mkdir(OUT, { recursive: true });
print.step('download of the engine');
print.sizes(await measure());

print.step(`a bundle of about ${flags.items} items`);
const [world, bundle] = [join(OUT, 'world'), join(OUT, 'bundle')];
// Items that nobody touched are not in a bundle, so the world has some more of them.
const items = Math.round(Number(flags.items) * 1.02);
await sanderling('synth', '--items', items, '--users', 6000, '--days', 60, '--out', world);
const recipe = fileURLToPath(new URL('sanderling.toml', import.meta.url));
const trained = await sanderling('train', world, '--recipe', recipe, '--max-epochs', 2, '--out', bundle);
print.bundle(trained);

if (findBrowser() === undefined) {
  console.error('no browser was found: latency was not measured');
  process.exit(1);
}
print.step('recommend() in Chromium: session of the last items, features, ranker, policy, reasons');
const catalogue = join(OUT, 'catalogue.json');
await writeFile(catalogue, '[]');
const server = await serve({ root: await assemble({ out: join(OUT, 'site'), bundle, catalogue }) });
const { context, version, close } = await launch({});
try {
  const page = context.pages()[0] ?? (await context.newPage());
  await page.goto(`${server.url}/bench.html?calls=${flags.calls}`);
  await page.waitForFunction(() => window.__bench !== undefined);
  print.line(`Chromium ${version}: ${JSON.stringify(await page.evaluate(() => window.__bench))}`);
} finally {
  await close();
  await server.close();
}
