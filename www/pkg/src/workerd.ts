/**
 * The entry for workerd, where wasm cannot be compiled at run time: the engine is imported as a
 * compiled module, which the worker's bundler recognises.
 */
import engineModule from '../wasm/sanderling_wasm_bg.wasm';

import { openRecommender } from './open.js';
import { folderUrl, type Platform } from './platform.js';
import { RecommenderBase } from './recommender.js';
import type { LoadOptions } from './types.js';

export * from './index.js';

const platform: Platform = {
  defaultWasm: () => engineModule,
  resolve: (folder) => folderUrl(folder),
  fetch: (url, init) => fetch(url, init),
  immutableRequest: {},
  freshRequest: {},
  reportRequest: { redirect: 'manual' },
  openStorage: () => undefined,
};

/** Recommends in an edge worker; see {@link RecommenderBase}. */
export class Recommender extends RecommenderBase {
  /**
   * Loads a bundle from a URL, or with `fetch` from an assets binding.
   *
   * @throws RecommenderError with the code of what is wrong with the bundle, or `io`, `not_found`, `cancelled`.
   */
  static async load(source: string | URL | LoadOptions): Promise<Recommender> {
    const recommender = new Recommender(await openRecommender(source, platform));
    await recommender.restore();
    return recommender;
  }
}
