// Prints what a page downloads for the engine, as JSON: raw, gzip -9 and brotli 11 bytes by file.
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { brotliCompressSync, constants, gzipSync } from 'node:zlib';

const PACKAGE = fileURLToPath(new URL('../pkg', import.meta.url));

/** Measures the compiled engine, its bindings, and the modules that the browser entry loads; those of entries of their own are left out. */
export async function measure() {
  const dist = (await readdir(join(PACKAGE, 'dist'))).filter((name) => name.endsWith('.js'));
  const others = /^(node|workerd|channel|element|error-codes|react|session-outbox|sessions|shared-session)|-(slim|full)\.js$/;
  const modules = [...dist.filter((name) => !others.test(name)), 'platforms/browser.js'];
  const files = {
    wasm: [join(PACKAGE, 'wasm', 'sanderling_wasm_bg.wasm')],
    bindings: [join(PACKAGE, 'wasm', 'sanderling_wasm.js')],
    api: modules.map((name) => join(PACKAGE, 'dist', name)),
  };
  const sizes = {};
  for (const [name, paths] of Object.entries(files)) {
    const contents = await Promise.all(paths.map((path) => readFile(path)));
    sizes[name] = contents.map(compressed).reduce(add);
  }
  sizes.total = Object.values(sizes).reduce(add);
  return sizes;
}

/** Bytes as they are, and as a server may send them. */
export function compressed(bytes) {
  const params = { [constants.BROTLI_PARAM_QUALITY]: 11, [constants.BROTLI_PARAM_SIZE_HINT]: bytes.length };
  return {
    raw_bytes: bytes.length,
    gzip_bytes: gzipSync(bytes, { level: 9 }).length,
    brotli_bytes: brotliCompressSync(bytes, { params }).length,
  };
}

function add(left, right) {
  return Object.fromEntries(Object.keys(left).map((key) => [key, left[key] + right[key]]));
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) console.log(JSON.stringify(await measure(), null, 2));
