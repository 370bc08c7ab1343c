import type { BundleFiles } from './bundle.js';
import type { Engine, EngineConstructor, EngineFilesConstructor, Trust } from './engine.js';
import { RecommenderError, toRecommenderError } from './errors.js';
import type { Fetch, WasmSource } from './types.js';
import { chooseVariant, type Variant } from './variants.js';

/** The bindings that belong to a compiled engine. */
export interface Bindings {
  initSync: (options: { module: WebAssembly.Module }) => unknown;
  default: (options: { module_or_path: WebAssembly.Module }) => Promise<unknown>;
  /** Puts a new instance in the place of the one that all engines run in. Browsers do that for modules of at most 8 MiB. */
  __wbg_reset_state: () => void;
  WasmFiles: unknown;
  WasmEngine: unknown;
}

/** One of the two compiled engines, and where it is when the caller brings none. */
export interface Runtime {
  bindings: () => Bindings | Promise<Bindings>;
  /** Builds to prefer, best first; all have the same bindings. */
  variants?: readonly Variant[];
  /** The build that runs everywhere. */
  wasm: () => WasmSource | Promise<WasmSource>;
}

/** What an entry of this package offers; the full runtime runs whatever the slim one runs, with the same results. */
export interface Runtimes {
  slim?: Runtime;
  full?: Runtime;
}

/** An engine, and how many instances had failed before the one that it runs in: of one that failed since, nothing may be called. */
export interface BornEngine {
  engine: Engine;
  generation: number;
}

/** What lives in an instance. */
export interface Discardable {
  discarded(): void;
}

const PUBLIC_KEY_BYTES = 32;

/** So many instances may fail before a page goes without. */
const MAX_DISCARDED = 3;

/** The wasm instance of a runtime that a page's engines run in, and its successors. */
export class Instance {
  readonly #Files: EngineFilesConstructor;
  readonly #Engine: EngineConstructor;
  readonly #reset: () => void;
  /** Weak, so that an engine that nobody holds any more can be collected. */
  readonly #listeners = new Set<WeakRef<Discardable>>();
  /** Instances that failed. */
  numDiscarded = 0;

  constructor({ WasmFiles, WasmEngine, __wbg_reset_state: reset }: Bindings) {
    this.#Files = WasmFiles as EngineFilesConstructor;
    this.#Engine = WasmEngine as EngineConstructor;
    this.#reset = reset;
  }

  /** Opens a bundle in the present instance; throws objects that carry a stable `code`, and whatever an instance that failed throws. */
  open({ files, digests }: BundleFiles, { keys, now, leastRollbackIndex }: Trust): BornEngine {
    const given = new this.#Files();
    for (const [name, bytes] of Object.entries(files)) given.add(name, bytes, digests?.[name]);
    return { engine: new this.#Engine(given, joined(keys), now, leastRollbackIndex), generation: this.numDiscarded };
  }

  /** Whether so many instances have failed that there is no new one. */
  get isDisabled(): boolean {
    return this.numDiscarded >= MAX_DISCARDED;
  }

  /** The error of whoever wants an engine when there is none any more. */
  exhausted(): RecommenderError {
    return new RecommenderError('inference_failed', 'the engine stopped too often and is not started again', {
      found: `${this.numDiscarded} times`,
      hint: 'reload the page',
    });
  }

  /** Tells `engine` when its instance was discarded, until the result is called. */
  onDiscarded(engine: Discardable): () => void {
    for (const known of this.#listeners) if (known.deref() === undefined) this.#listeners.delete(known);
    const listener = new WeakRef(engine);
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /**
   * Leaves the instance and all its engines behind; nothing of them may be called again, not even `free`. There is a new one also when it
   * is not used any more: bindings keep finalizers away from an instance that is not the present one.
   */
  discard(): void {
    this.numDiscarded += 1;
    try {
      this.#reset();
    } catch {
      this.numDiscarded = MAX_DISCARDED;
    }
    for (const listener of [...this.#listeners]) listener.deref()?.discarded();
  }
}

function joined(keys: readonly Uint8Array[]): Uint8Array {
  const all = new Uint8Array(keys.length * PUBLIC_KEY_BYTES);
  keys.forEach((key, at) => all.set(key, at * PUBLIC_KEY_BYTES));
  return all;
}

const ready = new WeakMap<Runtime, Promise<Instance>>();

/** Compiles an engine once for this module; a failed attempt may be repeated. */
export function instanceOf(runtime: Runtime, fetch: Fetch, wasm?: WasmSource): Promise<Instance> {
  const known = ready.get(runtime);
  if (known !== undefined) return known;
  const instance = compile(runtime, fetch, wasm).catch((thrown: unknown) => {
    ready.delete(runtime);
    throw thrown;
  });
  ready.set(runtime, instance);
  return instance;
}

async function compile(runtime: Runtime, fetch: Fetch, wasm?: WasmSource): Promise<Instance> {
  const moduleOf = async (given: WasmSource | Promise<WasmSource>) => {
    const isAddress = (source: unknown): source is string | URL => typeof source === 'string' || source instanceof URL;
    // Of an address the request goes out at once: everything waits for it.
    const source = isAddress(given) ? given : await given;
    return isAddress(source) ? fetched(await request(fetch, source), source) : toModule(source);
  };
  const chosen = async () => {
    const variant = wasm === undefined && (await chooseVariant(runtime.variants ?? [], moduleOf));
    return variant || moduleOf(wasm ?? runtime.wasm());
  };
  try {
    const [bindings, module] = await Promise.all([runtime.bindings(), chosen()]);
    await start(bindings, module);
    return new Instance(bindings);
  } catch (thrown) {
    throw toRecommenderError(thrown, 'io', 'the engine cannot be compiled here', HINT);
  }
}

const HINT = 'its address must have the .wasm file (how with your bundler: README, "Where it runs"), a Content-Security-Policy script-src \'wasm-unsafe-eval\'';

/** The module of an address; what is no module says where it was. */
async function fetched(response: Response, address: string | URL): Promise<WebAssembly.Module> {
  try {
    return await toModule(response);
  } catch (thrown) {
    const { summary, details } = toRecommenderError(thrown, 'io', 'the engine cannot be compiled here');
    throw new RecommenderError('io', summary, { found: `${details.found} at ${address}`, hint: HINT }, thrown);
  }
}

/** At once, because Node loads all of its fetch where the other way names `Response`. Pages of some browsers may not do so with a large module. */
async function start(bindings: Bindings, module: WebAssembly.Module): Promise<void> {
  try {
    bindings.initSync({ module });
  } catch {
    await bindings.default({ module_or_path: module });
  }
}

/** Compiles while it arrives, where the server says what it is. What it was given is told apart by what it has: it may be of another realm. */
async function toModule(source: Exclude<WasmSource, string | URL>): Promise<WebAssembly.Module> {
  if (Object.prototype.toString.call(source) === '[object WebAssembly.Module]') return source as WebAssembly.Module;
  if (!isResponse(source)) return WebAssembly.compile(source as BufferSource);
  // A parameter behind the type makes streaming fail.
  const streams = typeof WebAssembly.compileStreaming === 'function' && source.headers.get('content-type')?.trim().toLowerCase() === 'application/wasm';
  return streams ? WebAssembly.compileStreaming(source) : WebAssembly.compile(await source.arrayBuffer());
}

function isResponse(source: unknown): source is Response {
  return typeof (source as Partial<Response> | null | undefined)?.headers?.get === 'function';
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
