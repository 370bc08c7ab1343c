import { execFile } from 'node:child_process';
import { access, cp, mkdir, mkdtemp, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';

import { hashOf } from './hash.mjs';
import { BUILD, PROGRAM, WWW } from './paths.mjs';

const run = promisify(execFile);

/** Reads the files of a bundle folder by name. */
export async function readBundle(folder) {
  const names = (await readdir(folder, { withFileTypes: true })).filter((entry) => entry.isFile());
  const contents = names.map(async ({ name }) => [name, new Uint8Array(await readFile(join(folder, name)))]);
  return Object.fromEntries(await Promise.all(contents));
}

/**
 * The bundle folder that the suites run on: `SANDERLING_BUNDLE`, or a small one that is trained on
 * a generated world, once for every build of the engine and of the program.
 */
export async function testBundle() {
  return process.env.SANDERLING_BUNDLE ?? trained('bundle', '');
}

/** The same with vectors of 32 or 128 elements, hardly trained. */
export const bundleOfWidth = (dim) => trained(`bundle-of-${dim}`, `[model]\ndim = ${dim}\nlayers = 1\nmax_epochs = 1\n`);

async function trained(name, recipe) {
  const maker = await hashOf([join(WWW, 'pkg/wasm/sanderling_wasm_bg.wasm'), PROGRAM]);
  const folder = join(BUILD, 'js', `${name}-${maker}`);
  if (!(await exists(join(folder, 'manifest.json')))) await train(folder, recipe);
  return folder;
}

async function train(folder, recipe) {
  await mkdir(join(BUILD, 'js'), { recursive: true });
  const scratch = await mkdtemp(join(BUILD, 'js', 'train-'));
  try {
    const [world, bundle, settings] = ['world', 'bundle', 'recipe.toml'].map((name) => join(scratch, name));
    await writeFile(settings, recipe);
    await run(PROGRAM, ['synth', '--users', '300', '--days', '20', '--out', world]);
    await run(PROGRAM, ['train', world, '--recipe', settings, '--name', 'shop', '--out', bundle], { maxBuffer: 64 * 1024 * 1024 });
    await rename(bundle, folder).catch(async (error) => {
      // Another run was first.
      if (!(await exists(join(folder, 'manifest.json')))) throw error;
    });
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}

/** A signed copy of a bundle: its folder, the 64 hex digits of its key, and the folder to remove afterwards. */
export async function signBundle(bundle) {
  const scratch = await mkdtemp(join(BUILD, 'js', 'sign-'));
  const [folder, key] = [join(scratch, 'bundle'), join(scratch, 'key')];
  await cp(bundle, folder, { recursive: true });
  await run(PROGRAM, ['keygen', '--out', key]);
  await run(PROGRAM, ['sign', folder, '--key', key]);
  return { scratch, folder, publicKey: (await readFile(`${key}.pub`, 'utf8')).trim() };
}

export async function exists(path) {
  return access(path).then(() => true, () => false);
}
