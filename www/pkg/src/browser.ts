/**
 * The entry for browsers, workers and bundlers: the slim runtime, and the full one for a bundle that needs it.
 * Importing it does nothing: no fetch, no storage, no globals are touched before `load`.
 */
import { recommenderOn } from './load.js';
import { browser } from './platforms/browser.js';
import { slimInBrowsers } from './slim-in-browsers.js';
import type { RecommenderBase } from './recommender.js';
import { WorkerRecommender, type WorkerLoadOptions } from './worker-client.js';

export * from './index.js';

/** Recommends on the device; see {@link RecommenderBase}. */
export const Recommender = Object.assign(
  recommenderOn(browser({
    slim: slimInBrowsers,
    full: { bindings: () => import('../wasm/sanderling_full.js'), wasm: () => new URL('../wasm/sanderling_full_bg.wasm', import.meta.url) },
  })),
  {
    /** Loads a bundle into a worker of its own, which is asked by promises; rejects as `load`. */
    inWorker: (source: string | URL | WorkerLoadOptions): Promise<WorkerRecommender> =>
      WorkerRecommender.load(() => new Worker(new URL('./worker.js', import.meta.url), { type: 'module', name: 'sanderling' }), source),
  },
);
export type Recommender = RecommenderBase;
