// Runs operations through the packed npm package, with engines that have them, in one runtime:
// `node run-operations.mjs --runtime node|deno|bun|chromium|firefox|workerd --bundle DIR --operations FILE.json`.
// Prints the outcomes as one JSON array on stdout; exits 1 when the runtime itself fails.
import { readFile } from 'node:fs/promises';

import { readFlags } from '../../www/tools/flags.mjs';
import { openBun } from './lib/bun.mjs';
import { openChromium } from './lib/chromium.mjs';
import { openDeno } from './lib/deno.mjs';
import { openFirefox } from './lib/firefox.mjs';
import { openNode } from './lib/node.mjs';
import { installForOperations } from './lib/packed.mjs';
import { openWorkerd } from './lib/workerd.mjs';

const RUNTIMES = {
  node: openNode, deno: openDeno, bun: openBun, chromium: openChromium, firefox: openFirefox, workerd: openWorkerd,
};

const required = { required: true };
const { runtime, bundle, operations } = readFlags({ runtime: required, bundle: required, operations: required });
const open = RUNTIMES[runtime];
if (open === undefined) {
  console.error(`--runtime is ${runtime}; expected one of ${Object.keys(RUNTIMES).join(', ')}`);
  process.exit(2);
}
const opened = await open({ project: await installForOperations(), bundle });
try {
  const outcomes = await opened.run(JSON.parse(await readFile(operations, 'utf8')));
  process.stdout.write(`${JSON.stringify(outcomes)}\n`);
} finally {
  await opened.close();
}
