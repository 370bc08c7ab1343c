/** Builds of one engine for instructions that not every machine has, and which of them is taken. */

import type { WasmSource } from './types.js';

/** A build that gives the same results as the others, where it runs at all. */
export interface Variant {
  /** A module that is valid only where the build's instructions are. */
  probe: Uint8Array<ArrayBuffer>;
  wasm: () => WasmSource | Promise<WasmSource>;
}

const header = [0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0];

/** `i32x4.relaxed_dot_i8x16_i7x16_add_s` of three splats. */
export const RELAXED_SIMD = Uint8Array.of(...header, 10, 19, 1, 17, 0, 65, 1, 253, 15, 65, 2, 253, 15, 65, 3, 253, 17, 253, 147, 2, 11);
/** `i32x4.dot_i16x8_s` of two splats. */
export const SIMD128 = Uint8Array.of(...header, 10, 15, 1, 13, 0, 65, 1, 253, 16, 65, 2, 253, 16, 253, 186, 1, 11);

/**
 * The first of `variants` that runs here and whose kernels give known results: browsers have shipped vector instructions that
 * were valid and wrong. A build that cannot be fetched is passed over, too. `undefined` when none is left, and the caller tries
 * the one for every machine, whose error is then the error. Throws where a page's Content-Security-Policy forbids wasm.
 */
export async function chooseVariant(variants: readonly Variant[], compile: (source: WasmSource) => Promise<WebAssembly.Module>): Promise<WebAssembly.Module | undefined> {
  for (const { probe, wasm } of variants) {
    if (!WebAssembly.validate(probe)) continue;
    const built = (async () => compile(await wasm()))();
    built.catch(() => {});
    // What is valid and cannot be compiled is forbidden, and so are all others. Asked while the build is fetched already.
    await WebAssembly.compile(probe);
    try {
      const module = await built;
      if (await kernelsWork(module)) return module;
    } catch {
      // The next one is asked.
    }
  }
  return undefined;
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
