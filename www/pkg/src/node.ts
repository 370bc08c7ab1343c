/**
 * The entry for Node: the slim runtime, and the full one for a bundle that needs it.
 */
import * as slim from '../wasm/sanderling_wasm.js';

import { recommenderOn } from './load.js';
import { node, read } from './platforms/node.js';
import type { RecommenderBase } from './recommender.js';
import { RELAXED_SIMD } from './variants.js';

export * from './index.js';

/** Recommends on the device; see {@link RecommenderBase}. */
export const Recommender = recommenderOn(node({
  slim: {
    bindings: () => slim,
    variants: [{ probe: RELAXED_SIMD, wasm: () => read(new URL('../wasm/sanderling_relaxed_bg.wasm', import.meta.url)) }],
    wasm: () => read(new URL('../wasm/sanderling_wasm_bg.wasm', import.meta.url)),
  },
  full: { bindings: () => import('../wasm/sanderling_full.js'), wasm: () => read(new URL('../wasm/sanderling_full_bg.wasm', import.meta.url)) },
}));
export type Recommender = RecommenderBase;
