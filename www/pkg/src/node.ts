/** The entry for Node: the engine and, if wanted, the bundle are read from the file system. */
import { readFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';

import { openRecommender } from './open.js';
import { folderUrl, type Platform } from './platform.js';
import { RecommenderBase } from './recommender.js';
import type { LoadOptions } from './types.js';

export * from './index.js';

const platform: Platform = {
  defaultWasm: async () => new Uint8Array(await readFile(new URL('../wasm/sanderling_wasm_bg.wasm', import.meta.url))),
  // A single letter before the colon is a drive, not a scheme.
  resolve: (folder) =>
    folder instanceof URL || /^[a-z][a-z0-9+.-]+:/i.test(folder) ? folderUrl(folder) : folderUrl(pathToFileURL(resolve(folder))),
  fetch: (url, init) => (url.startsWith('file:') ? readAsResponse(url) : fetch(url, init)),
  immutableRequest: {},
  freshRequest: {},
  reportRequest: { redirect: 'error' },
  openStorage: () => undefined,
};

async function readAsResponse(url: string): Promise<Response> {
  try {
    return new Response(new Uint8Array(await readFile(new URL(url))));
  } catch (thrown) {
    if ((thrown as NodeJS.ErrnoException).code === 'ENOENT') return new Response(null, { status: 404 });
    throw thrown;
  }
}

/** Recommends in Node; see {@link RecommenderBase}. */
export class Recommender extends RecommenderBase {
  /**
   * Loads a bundle from a path, a `file:` URL, an `http:` URL or `{ files }`.
   *
   * @throws RecommenderError with the code of what is wrong with the bundle, or `io`, `not_found`, `cancelled`.
   */
  static async load(source: string | URL | LoadOptions): Promise<Recommender> {
    const recommender = new Recommender(await openRecommender(source, platform));
    await recommender.restore();
    return recommender;
  }
}
