/** Builds of one engine for instructions that not every machine has, and which of them is taken. */

import type { WasmSource } from './types.js';

/** A build that gives the same results as the others, where it runs at all. */
export interface Variant {
  /** A module that is valid only where the build's instructions are. */
  probe: BufferSource;
  /** Whether the build is faster here than the next one, by what the probe exports; always where it is absent. */
  isFast?: (exports: WebAssembly.Exports) => boolean;
  wasm: () => WasmSource | Promise<WasmSource>;
}

const header = [0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1];
const [i32, v128] = [127, 123];

/** Exports `a`, a lane of `i32x4.relaxed_dot_i8x16_i7x16_add_s` of 127, 255 and 0 in all lanes. */
export const RELAXED_SIMD: BufferSource = Uint8Array.of(
  ...header, i32, 3, 2, 1, 0, 7, 5, 1, 1, 97, 0, 0,
  10, 24, 1, 22, 0, 65, 255, 0, 253, 15, 65, 255, 1, 253, 15, 65, 0, 253, 17, 253, 147, 2, 253, 27, 0, 11,
);
/** `i32x4.dot_i16x8_s` of two splats. */
export const SIMD128: BufferSource = Uint8Array.of(...header, v128, 3, 2, 1, 0, 10, 15, 1, 13, 0, 65, 1, 253, 16, 65, 2, 253, 16, 253, 186, 1, 11);

/**
 * Whether a machine multiplies four bytes at once. 255 has more than 7 bits, so the machine's own instruction shows: one that has
 * to multiply by twos (`vpmaddubsw`, x86 without AVX-VNNI) ends at 32,767 for each two. There it takes five instructions
 * in place of one, and an encoder that multiplies 16 bits is a quarter faster.
 */
export function multipliesFours({ a }: WebAssembly.Exports): boolean {
  return (a as () => number)() !== 2 * 32_767;
}

/**
 * The first of `variants` that runs here, is fast and has kernels that give known results: browsers have shipped vector instructions
 * that were valid and wrong. A build that cannot be fetched is passed over, too. `undefined` when none is left, and the caller tries
 * the one for every machine, whose error is then the error. Throws where a page's Content-Security-Policy forbids wasm.
 */
export async function chooseVariant(
  variants: readonly Variant[], compile: (source: WasmSource | Promise<WasmSource>) => Promise<WebAssembly.Module>,
): Promise<WebAssembly.Module | undefined> {
  let probed: { probe: BufferSource; exports: WebAssembly.Exports | undefined } | undefined;
  for (const { probe, isFast, wasm } of variants) {
    // Two builds in a row may ask for the same.
    if (probed?.probe !== probe) probed = { probe, exports: exportsOf(probe) };
    const { exports } = probed;
    if (exports === undefined || isFast?.(exports) === false) continue;
    try {
      const module = await compile(wasm());
      if (await kernelsWork(module)) return module;
    } catch {
      // The next one is asked.
    }
  }
  return undefined;
}

/**
 * What a probe exports; `undefined` where it is not valid. A few bytes, at once: the build's fetch waits for them. What is valid
 * and cannot be compiled is forbidden.
 */
function exportsOf(probe: BufferSource): WebAssembly.Exports | undefined {
  return WebAssembly.validate(probe) ? new WebAssembly.Instance(new WebAssembly.Module(probe)).exports : undefined;
}

/** Runs the self-test in an instance of its own, which needs nothing of the host. */
async function kernelsWork(module: WebAssembly.Module): Promise<boolean> {
  const imports: WebAssembly.Imports = {};
  for (const { module: from, name, kind } of WebAssembly.Module.imports(module)) {
    if (kind === 'function') (imports[from] ??= {})[name] = () => undefined;
  }
  const { exports } = await WebAssembly.instantiate(module, imports);
  return (exports['kernels_work'] as () => number)() === 1;
}
