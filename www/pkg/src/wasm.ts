import init, { WasmEngine } from '../wasm/sanderling_wasm.js';

import type { EngineConstructor } from './engine.js';
import { RecommenderError, toRecommenderError } from './errors.js';
import type { Platform } from './platform.js';
import type { Fetch, WasmSource } from './types.js';

let ready: Promise<EngineConstructor> | undefined;

/** Compiles the engine once for this module; a failed attempt may be repeated. */
export function engineConstructor(platform: Platform, fetch: Fetch, wasm?: WasmSource): Promise<EngineConstructor> {
  ready ??= compile(platform, fetch, wasm).catch((thrown: unknown) => {
    ready = undefined;
    throw thrown;
  });
  return ready;
}

async function compile(platform: Platform, fetch: Fetch, wasm?: WasmSource): Promise<EngineConstructor> {
  const source = wasm ?? (await platform.defaultWasm());
  const module_or_path = typeof source === 'string' || source instanceof URL ? await request(fetch, source) : source;
  try {
    await init({ module_or_path });
  } catch (thrown) {
    const error = toRecommenderError(thrown, 'internal', 'the engine cannot be compiled here');
    error.details.hint ??= 'a page with a Content-Security-Policy needs script-src \'wasm-unsafe-eval\'';
    throw error;
  }
  return WasmEngine as unknown as EngineConstructor;
}

async function request(fetch: Fetch, source: string | URL): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(String(source));
  } catch (thrown) {
    throw toRecommenderError(thrown, 'io', `cannot fetch ${source}`);
  }
  if (response.ok) return response;
  throw new RecommenderError(response.status === 404 ? 'not_found' : 'io', `cannot fetch ${source}`, {
    found: `HTTP status ${response.status}`,
    hint: 'pass the compiled engine as `wasm`',
  });
}
