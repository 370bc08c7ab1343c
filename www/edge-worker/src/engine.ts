import { Recommender, RecommenderError, type LoadOptions } from 'sanderling';

/** What the worker is configured with; see `wrangler.jsonc`. */
export interface Env {
  /** The files beside the worker. */
  ASSETS?: { fetch(input: string, init?: RequestInit): Promise<Response> };
  /** A bucket that holds the bundle instead (R2, or whatever has its `get`). */
  BUNDLES?: { get(key: string): Promise<{ body: ReadableStream } | null> };
  /** Folder of the bundle: a path inside BUNDLES or ASSETS, or an address with its scheme. */
  BUNDLE_URL?: string;
  /** 64 hex digits, or several keys with commas between them; empty accepts an unsigned bundle. */
  PUBLIC_KEY?: string;
  /** Bundles with a smaller `rollback_index` are refused. */
  MIN_ROLLBACK_INDEX?: string;
  /** Origin of the pages that may call from a browser. */
  ALLOWED_ORIGIN?: string;
  /**
   * Signs the cookies in which browsers keep their sessions; of several, with commas between them, the first does, and all are believed.
   * Without one sessions come with requests only.
   */
  SESSION_SECRET?: string;
  /** Base URL of the collector that reports are handed on to; without it none are taken. */
  COLLECTOR_URL?: string;
}

/** How long a load is waited for. Hosts drop what a request began some 30 seconds after its end, and a dropped load never ends. */
const LOAD_MILLIS = 25_000;
/** How long a load that failed answers those that come after it, which would fetch the same bundle for the same refusal. */
const FAILED_MILLIS = 5_000;
/** How long after an attempt to load in the place of an engine that stopped there is another. */
const REPLACE_MILLIS = 60_000;
/** An isolate has 128 MB, for the files of a bundle, their copy in wasm memory and everything else. */
const MAX_BUNDLE_BYTES = 40 * 1024 * 1024;

interface Load {
  recommender: Promise<Recommender>;
  startedAt: number;
  failedAt?: number;
  loaded?: Recommender;
}

type WaitUntil = (work: Promise<unknown>) => void;

let load: Load | undefined;
/** When something was last loaded in the place of an engine that stopped. */
let replacedAt = -Infinity;

/**
 * The isolate's one engine, loaded by the first request that needs it. A load outlives the request
 * that started it, so a visitor who leaves cannot strand the others; a load that takes too long, or failed some seconds ago, is begun again
 * by the next request.
 */
export async function engine(env: Env, waitUntil: WaitUntil): Promise<Recommender> {
  if (load !== undefined && isPast(load)) load = undefined;
  const { recommender } = (load ??= begin(env, waitUntil));
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new RecommenderError('io', 'the bundle takes too long to load')), LOAD_MILLIS);
  });
  // Another load may be over before this one, which is freed or given up then.
  const other = (): Promise<Recommender> | undefined => (load?.loaded === undefined ? undefined : load.recommender);
  return Promise.race([recommender, late])
    .then((loaded) => other() ?? loaded, (thrown: unknown) => other() ?? Promise.reject(thrown))
    .finally(() => clearTimeout(timer));
}

/**
 * Loads anew for an engine that has stopped and does not come back, as when its bundle is not there any more: what is there now takes its
 * place. Until then it goes on with its fallback lists.
 */
export function replace(stopped: Recommender, env: Env, waitUntil: WaitUntil): void {
  if (load?.loaded !== stopped || Date.now() - replacedAt < REPLACE_MILLIS) return;
  replacedAt = Date.now();
  begin(env, waitUntil);
}

function isPast({ loaded, failedAt, startedAt }: Load): boolean {
  if (loaded !== undefined) return false;
  return failedAt === undefined ? Date.now() - startedAt > LOAD_MILLIS : Date.now() - failedAt > FAILED_MILLIS;
}

function begin(env: Env, waitUntil: WaitUntil): Load {
  const begun: Load = { recommender: Recommender.load(loadOptions(env)), startedAt: Date.now() };
  const over = begun.recommender.then(
    (recommender) => {
      begun.loaded = recommender;
      if (load === begun) return;
      // One that was given up is better than one that is still on its way, and any than one that stopped.
      const before = load?.loaded;
      if (before?.engine.state === 'running') return recommender.free();
      load = begun;
      // Behind those that have just been given it.
      setTimeout(() => before?.free(), 0);
    },
    () => {
      begun.failedAt = Date.now();
    },
  );
  waitUntil(over);
  return begun;
}

function loadOptions(env: Env): LoadOptions {
  const { ASSETS: assets, BUNDLES: bucket, BUNDLE_URL: folder = '/bundle/', PUBLIC_KEY: publicKey, MIN_ROLLBACK_INDEX: index } = env;
  // The host of an assets request is never resolved; only the path counts.
  const options: LoadOptions = { baseUrl: new URL(folder, 'https://assets.invalid/'), consent: 'none', maxBundleBytes: MAX_BUNDLE_BYTES };
  if (!/^[a-z][a-z0-9+.-]*:/i.test(folder)) {
    if (bucket !== undefined) options.fetch = async (url) => objectOf(await bucket.get(decodeURIComponent(new URL(url).pathname.slice(1))));
    else if (assets !== undefined) options.fetch = (url, init) => assets.fetch(url, init);
  }
  if (publicKey) options.publicKey = publicKey.split(',').map((key) => key.trim());
  if (index) options.minRollbackIndex = Number(index);
  return options;
}

function objectOf(object: { body: ReadableStream } | null): Response {
  return object === null ? new Response(null, { status: 404 }) : new Response(object.body);
}
