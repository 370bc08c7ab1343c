/**
 * The entry for browsers, workers and bundlers. Importing it does nothing: no fetch, no storage,
 * no globals are touched before `load`.
 */
import { IndexedDbStorage } from './indexed-db.js';
import { openRecommender } from './open.js';
import { folderUrl, type Platform } from './platform.js';
import { RecommenderBase } from './recommender.js';
import type { LoadOptions } from './types.js';

export * from './index.js';

const platform: Platform = {
  defaultWasm: () => new URL('../wasm/sanderling_wasm_bg.wasm', import.meta.url),
  resolve: (folder) => folderUrl(folder, globalThis.document?.baseURI ?? globalThis.location?.href),
  fetch: (url, init) => fetch(url, init),
  immutableRequest: { cache: 'force-cache', credentials: 'same-origin' },
  freshRequest: { cache: 'no-cache', credentials: 'same-origin' },
  reportRequest: {
    mode: 'cors', credentials: 'omit', cache: 'no-store', redirect: 'error', referrerPolicy: 'no-referrer', keepalive: true,
  },
  openStorage: (name) => (globalThis.indexedDB === undefined ? undefined : new IndexedDbStorage(name)),
};

/** Recommends on the device; see {@link RecommenderBase}. */
export class Recommender extends RecommenderBase {
  /**
   * Loads a bundle: `await Recommender.load('/bundle/')`.
   *
   * @throws RecommenderError with the code of what is wrong with the bundle, or `io`, `not_found`, `cancelled`.
   */
  static async load(source: string | URL | LoadOptions): Promise<Recommender> {
    const recommender = new Recommender(await openRecommender(source, platform));
    await recommender.restore();
    return recommender;
  }
}
