import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';

/** Reads the files of a bundle folder by name. */
export async function readBundle(folder) {
  const names = (await readdir(folder, { withFileTypes: true })).filter((entry) => entry.isFile());
  const contents = names.map(async ({ name }) => [name, new Uint8Array(await readFile(join(folder, name)))]);
  return Object.fromEntries(await Promise.all(contents));
}

/** The bundle folder that the suites run on; `SANDERLING_BUNDLE` names it. */
export function testBundle() {
  const folder = process.env.SANDERLING_BUNDLE;
  if (!folder) throw new Error('set SANDERLING_BUNDLE to a bundle folder, such as the one that `build.sh demo --once` trains');
  return folder;
}
