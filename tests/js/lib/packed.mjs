import { execFile } from 'node:child_process';
import { cp, mkdir, mkdtemp, readdir, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';

import { exists } from './bundle.mjs';
import { hashOf } from './hash.mjs';
import { BUILD, WWW } from './paths.mjs';

const run = promisify(execFile);
const PACKAGE = join(WWW, 'pkg');
/** What decides the content of the tarball. */
const SOURCES = ['package.json', 'README.md', 'LICENSE-APACHE', 'LICENSE-MIT', 'dist', 'src', 'types', 'wasm'].map((name) => join(PACKAGE, name));

/** The engines that run conformance operations, too. */
const TEST_ENGINES = join(BUILD, 'wasm-operations');

/**
 * Packs the npm package and installs the tarball into a throw-away project; resolves to the
 * project's folder. Installs are kept by what they were packed from.
 */
export async function installPacked() {
  return kept('packed', SOURCES, install);
}

/** As `installPacked`, with engines that run conformance operations in the place of those that pages download. */
export async function installForOperations() {
  return kept('operations', [...SOURCES, TEST_ENGINES], async (scratch) => {
    await install(scratch);
    await cp(TEST_ENGINES, join(scratch, 'node_modules/sanderling/wasm'), { recursive: true });
  });
}

/** Makes a project in a scratch folder and moves the result, so that two runs cannot see half of one. */
async function kept(name, sources, make) {
  const folder = join(BUILD, 'js');
  const project = join(folder, `${name}-${await hashOf(sources)}`);
  if (await exists(join(project, 'package.json'))) return project;
  await mkdir(folder, { recursive: true });
  const scratch = await mkdtemp(join(folder, 'pack-'));
  try {
    await make(scratch);
    await rename(scratch, project).catch(async (error) => {
      // Another run was first.
      if (!(await exists(join(project, 'package.json')))) throw error;
    });
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
  return project;
}

async function install(scratch) {
  await npm(['pack', '--pack-destination', scratch, PACKAGE], scratch);
  const [tarball] = (await readdir(scratch)).filter((entry) => entry.endsWith('.tgz'));
  const manifest = { name: 'packed-project', version: '1.0.0', private: true, type: 'module' };
  await writeFile(join(scratch, 'package.json'), JSON.stringify(manifest));
  await npm(['install', '--offline', '--ignore-scripts', '--no-audit', '--no-fund', `./${tarball}`], scratch);
}

function npm(args, cwd) {
  return run('npm', args, { cwd, maxBuffer: 16 * 1024 * 1024 });
}
