// `node in-node.mjs FOLDER steady` or `node in-node.mjs FOLDER cold PEER CASE`: one JSON result on standard output.
import { createRequire } from 'node:module';
import { readFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';

import { filesOf } from './files.mjs';
import { cold, steady } from './measure.mjs';

const [folder, mode, ...rest] = process.argv.slice(2);
const require = createRequire(import.meta.url);
const kept = new Map();
const read = async (path) => new Uint8Array(await readFile(join(folder, path)));
const env = {
  where: 'node', node: true,
  url: (path) => pathToFileURL(resolve(folder, path)).href,
  bytes: async (path) => kept.get(path) ?? read(path),
  native: (name) => require(name),
  prefetch: async ({ items }) => {
    for (const path of await filesOf(folder, items)) kept.set(path, await read(path));
  },
};
const result = mode === 'cold' ? await cold(env, ...rest) : await steady(env, (line) => process.stderr.write(`   ${line}\n`));
process.stdout.write(`${JSON.stringify(result)}\n`, () => process.exit(0));
