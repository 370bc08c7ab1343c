import { readFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';

import { folderUrl, type Platform } from '../platform.js';
import type { Runtimes } from '../runtime.js';

/** Node: the engine and, if wanted, the bundle are read from the file system. */
export function node(runtimes: Runtimes): Platform {
  return {
    runtimes,
    // A single letter before the colon is a drive, not a scheme.
    resolve: (folder) =>
      folder instanceof URL || /^[a-z][a-z0-9+.-]+:/i.test(folder) ? folderUrl(folder) : folderUrl(pathToFileURL(resolve(folder))),
    fetch: (url, init) => (url.startsWith('file:') ? readAsResponse(url) : fetch(url, init)),
    immutableRequest: {},
    freshRequest: {},
    reportRequest: { redirect: 'error' },
    keepsBundles: false,
    openStorage: () => undefined,
  };
}

/**
 * The bytes of a compiled engine at `url`. Bundlers of servers, as that of Next.js, may put the address of a page's asset there, at
 * which is no file; the package's own file `name` is then where it was when the module at `importer` was bundled.
 */
export function readEngine(url: URL, name: string, importer: string): Promise<Uint8Array<ArrayBuffer>> {
  return read(url.protocol === 'file:' ? url : new URL(`../wasm/${name}`, importer));
}

async function read(url: URL): Promise<Uint8Array<ArrayBuffer>> {
  return new Uint8Array(await readFile(url));
}

async function readAsResponse(url: string): Promise<Response> {
  try {
    return new Response(await read(new URL(url)));
  } catch (thrown) {
    if ((thrown as NodeJS.ErrnoException).code === 'ENOENT') return new Response(null, { status: 404 });
    throw thrown;
  }
}
