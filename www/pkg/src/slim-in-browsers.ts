import * as bindings from '../wasm/sanderling_wasm.js';

import type { Runtime } from './runtime.js';
import { multipliesFours, RELAXED_SIMD, SIMD128 } from './variants.js';

/** The slim runtime at addresses that bundlers recognise. */
export const slimInBrowsers: Runtime = {
  bindings: () => bindings,
  variants: [
    { probe: RELAXED_SIMD, isFast: multipliesFours, wasm: () => new URL('../wasm/sanderling_quads_bg.wasm', import.meta.url) },
    { probe: RELAXED_SIMD, wasm: () => new URL('../wasm/sanderling_pairs_bg.wasm', import.meta.url) },
    { probe: SIMD128, wasm: () => new URL('../wasm/sanderling_wasm_bg.wasm', import.meta.url) },
  ],
  wasm: () => new URL('../wasm/sanderling_scalar_bg.wasm', import.meta.url),
};
