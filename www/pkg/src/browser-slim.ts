/**
 * The entry `sanderling/slim` for browsers: the slim runtime alone, so that no bundler carries the full one.
 */
import * as slim from '../wasm/sanderling_wasm.js';

import { recommenderOn } from './load.js';
import { browser } from './platforms/browser.js';
import type { RecommenderBase } from './recommender.js';

export * from './index.js';

/** Recommends on the device; see {@link RecommenderBase}. */
export const Recommender = recommenderOn(browser({
  slim: { bindings: () => slim, wasm: () => new URL('../wasm/sanderling_wasm_bg.wasm', import.meta.url) },
}));
export type Recommender = RecommenderBase;
