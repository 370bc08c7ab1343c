/**
 * The entry for workerd: the slim runtime; `sanderling/full` has the other one.
 */
import engineModule from '../wasm/sanderling_wasm_bg.wasm';
import * as slim from '../wasm/sanderling_wasm.js';

import { recommenderOn } from './load.js';
import { workerd } from './platforms/workerd.js';
import type { RecommenderBase } from './recommender.js';

export * from './index.js';

/** Recommends on the device; see {@link RecommenderBase}. */
export const Recommender = recommenderOn(workerd({
  slim: { bindings: () => slim, wasm: () => engineModule },
}));
export type Recommender = RecommenderBase;
