import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, readdir, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';

import { exists } from './bundle.mjs';
import { hashOf } from './hash.mjs';
import { BUILD, WWW } from './paths.mjs';

const run = promisify(execFile);
const PACKAGE = join(WWW, 'pkg');
/** What decides the content of the tarball. */
const SOURCES = ['package.json', 'README.md', 'LICENSE-APACHE', 'LICENSE-MIT', 'dist', 'src', 'types', 'wasm'].map((name) => join(PACKAGE, name));

/**
 * Packs the npm package and installs the tarball into a throw-away project; resolves to the
 * project's folder. Installs are kept by what they were packed from.
 */
export async function installPacked() {
  const folder = join(BUILD, 'js');
  const project = join(folder, `packed-${await hashOf(SOURCES)}`);
  if (!(await exists(join(project, 'package.json')))) await install(folder, project);
  return project;
}

/** Installs in a scratch folder and moves the result, so that two runs cannot see half of one. */
async function install(folder, project) {
  await mkdir(folder, { recursive: true });
  const scratch = await mkdtemp(join(folder, 'pack-'));
  try {
    await npm(['pack', '--pack-destination', scratch, PACKAGE], folder);
    const [tarball] = (await readdir(scratch)).filter((entry) => entry.endsWith('.tgz'));
    const manifest = { name: 'packed-project', version: '1.0.0', private: true, type: 'module' };
    await writeFile(join(scratch, 'package.json'), JSON.stringify(manifest));
    await npm(['install', '--offline', '--ignore-scripts', '--no-audit', '--no-fund', `./${tarball}`], scratch);
    await rename(scratch, project).catch(async (error) => {
      // Another run was first.
      if (!(await exists(join(project, 'package.json')))) throw error;
    });
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}

function npm(args, cwd) {
  return run('npm', args, { cwd, maxBuffer: 16 * 1024 * 1024 });
}
