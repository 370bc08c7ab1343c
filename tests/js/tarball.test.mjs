// What the registry would get: read by the linters of packages, and weighed.
import assert from 'node:assert/strict';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { before, test } from 'node:test';

import { compressed } from '../../www/tools/sizes.mjs';
import { installPacked } from './lib/packed.mjs';
import { importOther, importTool } from './lib/paths.mjs';

/** What a page downloads at most, in bytes with brotli: 150 KiB and 1.3 MiB, the floors of docs/performance.md. */
const MAX_BYTES = { slim: 150 * 1024, full: 1.3 * 1024 * 1024 };

let project;
let tarball;

before(async () => {
  project = await installPacked();
  const [name] = (await readdir(project)).filter((entry) => entry.endsWith('.tgz'));
  tarball = new Uint8Array(await readFile(join(project, name)));
});

test('publint finds nothing in the tarball', async () => {
  const { publint } = await importOther('publint');
  const { formatMessage } = await importOther('publint/utils');
  const { messages, pkg } = await publint({ pack: { tarball: tarball.buffer }, level: 'suggestion', strict: true });
  assert.deepEqual(messages.map((message) => formatMessage(message, pkg, { color: false })), []);
});

test('the types resolve to what runs, wherever a module may be imported', async () => {
  const { checkPackage, createPackageFromTarballData } = await importOther('@arethetypeswrong/core');
  const { problems, types } = await checkPackage(createPackageFromTarballData(tarball));
  assert.equal(types.kind, 'included');
  // As its profile for packages that are modules only: TypeScript before `exports`, and `require`, are left out.
  const ignored = ['node10', 'node16-cjs'];
  assert.deepEqual(problems.filter(({ resolutionKind }) => !ignored.includes(resolutionKind)), []);
});

test('browsers can replace an instance of any engine on a page\'s thread', async () => {
  const folder = join(project, 'node_modules/sanderling/wasm');
  const engines = (await readdir(folder)).filter((name) => name.endsWith('.wasm'));
  assert.equal(engines.length, 5);
  for (const name of engines) {
    const { length } = await readFile(join(folder, name));
    assert.ok(length <= 8 << 20, `${name} has ${length} bytes: more than 8 MiB are refused`);
  }
});

for (const [entry, builds] of [['slim', ['quads', 'pairs', 'wasm', 'scalar']], ['full', ['full']]]) {
  test(`a page downloads no more than ${MAX_BYTES[entry]} bytes for sanderling/${entry}`, async () => {
    const { build } = await importTool('esbuild');
    const { outputFiles } = await build({
      stdin: { contents: `export * from 'sanderling/${entry}'`, resolveDir: project },
      bundle: true, minify: true, format: 'esm', write: false, logLevel: 'silent',
    });
    const script = compressed(outputFiles[0].contents).brotli_bytes;
    const engines = builds.map(async (build) => compressed(await readFile(join(project, `node_modules/sanderling/wasm/sanderling_${build}_bg.wasm`))).brotli_bytes);
    // A page fetches one of them.
    const engine = Math.max(...(await Promise.all(engines)));
    const total = script + engine;
    assert.ok(total <= MAX_BYTES[entry], `script ${script} + engine ${engine} = ${total} bytes with brotli`);
  });
}
