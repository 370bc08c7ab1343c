/**
 * The entry `sanderling/full` for browsers: the full runtime from the start, also in service workers, where nothing can be
 * imported later.
 */
import * as full from '../wasm/sanderling_full.js';

import { recommenderOn } from './load.js';
import { browser } from './platforms/browser.js';
import type { RecommenderBase } from './recommender.js';

export * from './index.js';

/** Recommends on the device; see {@link RecommenderBase}. */
export const Recommender = recommenderOn(browser({
  full: { bindings: () => full, wasm: () => new URL('../wasm/sanderling_full_bg.wasm', import.meta.url) },
}));
export type Recommender = RecommenderBase;
