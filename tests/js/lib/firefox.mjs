import { spawnSync } from 'node:child_process';
import { readdir } from 'node:fs/promises';

import { runInPage, servePage } from './chromium.mjs';
import { importOther } from './paths.mjs';

const NAMES = ['firefox-esr', 'firefox'];

/** The first Firefox that answers: the one that the environment names, then the usual ones. */
export function findFirefox() {
  const named = process.env.SANDERLING_FIREFOX;
  for (const command of named ? [named] : NAMES) {
    const { status } = spawnSync(command, ['--version']);
    if (status === 0) return spawnSync('which', [command], { encoding: 'utf8' }).stdout.trim();
  }
  return undefined;
}

/** Opens Firefox as a runtime for operations; playwright drives none but its own, so this is over WebDriver BiDi. */
export async function openFirefox(options) {
  const { default: puppeteer } = await importOther('puppeteer-core');
  const { url, close: closeServer } = await servePage(options);
  const browser = await puppeteer.launch({ browser: 'firefox', executablePath: findFirefox() });
  const page = await browser.newPage();
  await page.goto(url);
  const names = await readdir(options.bundle);
  const run = (operations) => page.evaluate(runInPage, { names, operations: JSON.stringify(operations) }).then(JSON.parse);
  const close = async () => {
    await browser.close();
    await closeServer();
  };
  return { run, close };
}
