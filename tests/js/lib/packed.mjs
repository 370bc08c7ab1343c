import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { access, mkdir, mkdtemp, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';

import { BUILD, WWW } from './paths.mjs';

const run = promisify(execFile);

/**
 * Packs the npm package and installs the tarball into a throw-away project; resolves to the
 * project's folder. Installs are kept by the tarball's hash, so an unchanged package costs one pack.
 */
export async function installPacked() {
  const folder = join(BUILD, 'js');
  await mkdir(folder, { recursive: true });
  const scratch = await mkdtemp(join(folder, 'pack-'));
  try {
    await npm(['pack', '--pack-destination', scratch, join(WWW, 'pkg')], folder);
    const [name] = (await readdir(scratch)).filter((entry) => entry.endsWith('.tgz'));
    const tarball = join(scratch, name);
    const hash = createHash('sha256').update(await readFile(tarball)).digest('hex').slice(0, 16);
    const project = join(folder, hash);
    if (!(await exists(join(project, 'node_modules', 'sanderling', 'package.json')))) await install(scratch, name, project);
    return project;
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}

/** Installs in the scratch folder and moves the result, so that two runs cannot see half of one. */
async function install(scratch, tarball, project) {
  const manifest = { name: 'packed-project', version: '1.0.0', private: true, type: 'module' };
  await writeFile(join(scratch, 'package.json'), JSON.stringify(manifest));
  await npm(['install', '--offline', '--ignore-scripts', '--no-audit', '--no-fund', `./${tarball}`], scratch);
  await rename(scratch, project).catch(async (error) => {
    // Another run was first.
    if (!(await exists(join(project, 'package.json')))) throw error;
  });
}

function npm(args, cwd) {
  return run('npm', args, { cwd, maxBuffer: 16 * 1024 * 1024 });
}

async function exists(path) {
  return access(path).then(() => true, () => false);
}
