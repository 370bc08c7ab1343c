import { createHash } from 'node:crypto';
import { readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';

/** A short hash over names and contents of files and folders. */
export async function hashOf(paths) {
  const hash = createHash('sha256');
  for (const path of paths) await add(hash, path);
  return hash.digest('hex').slice(0, 16);
}

async function add(hash, path) {
  if ((await stat(path)).isDirectory()) {
    for (const name of (await readdir(path)).toSorted()) await add(hash, join(path, name));
  } else {
    const content = await readFile(path);
    hash.update(`${path}\0${content.length}\0`).update(content);
  }
}
