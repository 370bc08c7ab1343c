// Puts the demo site together: `node site.mjs --out DIR --bundle DIR --catalogue FILE [--collector URL] [--public-key FILE]`.
import { cp, mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

import { readFlags } from './flags.mjs';

const WWW = fileURLToPath(new URL('..', import.meta.url));

/**
 * Copies page, package, bundle and catalogue into `out`; `collector` is the collector's base URL,
 * `publicKey` the file of the key that must have signed the bundle.
 */
export async function assemble({ out, bundle, catalogue, collector, publicKey }) {
  await rm(out, { recursive: true, force: true });
  await mkdir(join(out, 'sanderling'), { recursive: true });
  // The page's own files; scripts for the command line are modules that no browser loads.
  await cp(join(WWW, 'demo'), out, { recursive: true, filter: (path) => !/\.(mjs|toml)$/.test(path) });
  await cp(join(WWW, 'pkg', 'dist'), join(out, 'sanderling', 'dist'), { recursive: true });
  await cp(join(WWW, 'pkg', 'wasm'), join(out, 'sanderling', 'wasm'), { recursive: true });
  await cp(bundle, join(out, 'bundle'), { recursive: true });
  await cp(catalogue, join(out, 'catalogue.json'));
  const key = publicKey === undefined ? null : (await readFile(publicKey, 'utf8')).trim();
  await writeFile(join(out, 'demo.json'), JSON.stringify({ collector_url: collector ?? null, public_key: key }));
  return out;
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  const required = { required: true };
  const flags = readFlags({ out: required, bundle: required, catalogue: required, collector: {}, 'public-key': {} });
  const out = await assemble({ ...flags, publicKey: flags['public-key'] });
  console.log(JSON.stringify({ site: out }));
}
