import { open, readFile } from 'node:fs/promises';
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
    readFile: readAtMost,
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

async function readAtMost(url: URL, maxBytes: number, signal: AbortSignal | undefined): Promise<Uint8Array | undefined> {
  const file = await open(url).catch((thrown: unknown) => {
    if (isMissing(thrown)) return undefined;
    throw thrown;
  });
  if (file === undefined) return undefined;
  try {
    const bytes = new Uint8Array(Math.min((await file.stat()).size, maxBytes + 1));
    let length = 0;
    for (let read = -1; read !== 0 && length < bytes.length; length += read) {
      signal?.throwIfAborted();
      // Without a length early releases of Node 20 read nothing.
      ({ bytesRead: read } = await file.read(bytes, length, bytes.length - length, null));
    }
    return bytes.subarray(0, length);
  } finally {
    await file.close();
  }
}

const isMissing = (thrown: unknown) => (thrown as NodeJS.ErrnoException).code === 'ENOENT';

async function readAsResponse(url: string): Promise<Response> {
  try {
    return new Response(await read(new URL(url)));
  } catch (thrown) {
    if (isMissing(thrown)) return new Response(null, { status: 404 });
    throw thrown;
  }
}
