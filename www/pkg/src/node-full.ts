/**
 * The entry `sanderling/full` for Node: the full runtime from the start.
 */

import { recommenderOn } from './load.js';
import { node, readEngine } from './platforms/node.js';
import type { RecommenderBase } from './recommender.js';

export * from './index.js';

/** Recommends on the device; see {@link RecommenderBase}. */
export const Recommender = recommenderOn(node({
  full: {
    bindings: () => import('../wasm/sanderling_full.js'),
    wasm: () => readEngine(new URL('../wasm/sanderling_full_bg.wasm', import.meta.url), 'sanderling_full_bg.wasm', import.meta.url),
  },
}));
export type Recommender = RecommenderBase;
