/**
 * The entry for Node: the slim runtime, and the full one for a bundle that needs it.
 */
import * as slim from '../wasm/sanderling_wasm.js';

import { recommenderOn } from './load.js';
import { node, readEngine } from './platforms/node.js';
import type { RecommenderBase } from './recommender.js';
import { multipliesFours, RELAXED_SIMD } from './variants.js';

export * from './index.js';

const engine = (url: URL, name: string) => readEngine(url, name, import.meta.url);

/** Recommends on the device; see {@link RecommenderBase}. */
export const Recommender = recommenderOn(node({
  slim: {
    bindings: () => slim,
    variants: [
      { probe: RELAXED_SIMD, isFast: multipliesFours, wasm: () => engine(new URL('../wasm/sanderling_quads_bg.wasm', import.meta.url), 'sanderling_quads_bg.wasm') },
      { probe: RELAXED_SIMD, wasm: () => engine(new URL('../wasm/sanderling_pairs_bg.wasm', import.meta.url), 'sanderling_pairs_bg.wasm') },
    ],
    wasm: () => engine(new URL('../wasm/sanderling_wasm_bg.wasm', import.meta.url), 'sanderling_wasm_bg.wasm'),
  },
  full: {
    bindings: () => import('../wasm/sanderling_full.js'),
    wasm: () => engine(new URL('../wasm/sanderling_full_bg.wasm', import.meta.url), 'sanderling_full_bg.wasm'),
  },
}));
export type Recommender = RecommenderBase;
