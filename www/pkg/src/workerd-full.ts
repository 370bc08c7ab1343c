/**
 * The entry `sanderling/full` for workerd.
 */
import engineModule from '../wasm/sanderling_full_bg.wasm';
import * as full from '../wasm/sanderling_full.js';

import { recommenderOn } from './load.js';
import { workerd } from './platforms/workerd.js';
import type { RecommenderBase } from './recommender.js';

export * from './index.js';

/** Recommends on the device; see {@link RecommenderBase}. */
export const Recommender = recommenderOn(workerd({
  full: { bindings: () => full, wasm: () => engineModule },
}));
export type Recommender = RecommenderBase;
