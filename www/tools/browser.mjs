import { spawnSync } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { chromium } from 'playwright-core';

const NAMES = ['chromium', 'chromium-browser', 'google-chrome-stable', 'google-chrome'];
const ARGUMENTS = [
  '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync',
];

/** The first browser that answers: the one that the environment names, then the usual ones. */
export function findBrowser() {
  const named = process.env.SANDERLING_CHROMIUM || process.env.CHROMIUM;
  const candidates = named ? [named] : NAMES;
  for (const command of candidates) {
    const { status, stdout } = spawnSync(command, ['--version'], { encoding: 'utf8' });
    if (status === 0) return { command: which(command), version: stdout.trim() };
  }
  return undefined;
}

/**
 * Launches the browser with a fresh profile; resolves to the page's context and a function that
 * ends both. `options` are those of a browser context, such as `viewport`; `args` come behind the usual ones.
 */
export async function launch({ args = [], ...options } = {}) {
  const found = findBrowser();
  if (found === undefined) throw new Error(`no browser found; set SANDERLING_CHROMIUM or install one of ${NAMES.join(', ')}`);
  const profile = await mkdtemp(join(tmpdir(), 'sanderling-browser-'));
  const context = await chromium.launchPersistentContext(profile, {
    executablePath: found.command,
    args: [...ARGUMENTS, ...args],
    ...options,
  });
  const close = async () => {
    await context.close();
    await rm(profile, { recursive: true, force: true, maxRetries: 5 });
  };
  return { context, version: found.version, close };
}

function which(command) {
  const { status, stdout } = spawnSync('which', [command], { encoding: 'utf8' });
  return status === 0 ? stdout.trim() : command;
}
