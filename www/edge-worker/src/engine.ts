import { Recommender, RecommenderError, type LoadOptions } from 'sanderling';

/** What the worker is configured with; see `wrangler.jsonc`. */
export interface Env {
  /** The files beside the worker. */
  ASSETS?: { fetch(input: string, init?: RequestInit): Promise<Response> };
  /** A bucket that holds the bundle instead (R2, or whatever has its `get`). */
  BUNDLES?: { get(key: string): Promise<{ body: ReadableStream } | null> };
  /** Folder of the bundle: a path inside BUNDLES or ASSETS, or an absolute URL. */
  BUNDLE_URL?: string;
  /** 64 hex digits, or several keys with commas between them; empty accepts an unsigned bundle. */
  PUBLIC_KEY?: string;
  /** Bundles with a smaller `rollback_index` are refused. */
  MIN_ROLLBACK_INDEX?: string;
  /** Origin of the pages that may call from a browser. */
  ALLOWED_ORIGIN?: string;
  /** Signs the cookies in which browsers keep their sessions; without it sessions come with requests only. */
  SESSION_SECRET?: string;
  /** Base URL of the collector that reports are handed on to; without it none are taken. */
  COLLECTOR_URL?: string;
}

/** How long a load is waited for. Hosts drop what a request began some 30 seconds after its end, and a dropped load never ends. */
const LOAD_MILLIS = 25_000;

interface Load {
  recommender: Promise<Recommender>;
  startedAt: number;
  isOver: boolean;
}

let load: Load | undefined;

/**
 * The isolate's one engine, loaded by the first request that needs it. A load outlives the request
 * that started it, so a visitor who leaves cannot strand the others; a load that failed, or takes too long, is begun again
 * by the next request.
 */
export async function engine(env: Env, waitUntil: (work: Promise<unknown>) => void): Promise<Recommender> {
  if (load !== undefined && !load.isOver && Date.now() - load.startedAt > LOAD_MILLIS) load = undefined;
  const { recommender } = (load ??= begin(env, waitUntil));
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new RecommenderError('io', 'the bundle takes too long to load')), LOAD_MILLIS);
  });
  // Another load may be over before this one, which is freed or given up then.
  const other = (): Promise<Recommender> | undefined => (load?.isOver ? load.recommender : undefined);
  return Promise.race([recommender, late])
    .then((loaded) => other() ?? loaded, (thrown: unknown) => other() ?? Promise.reject(thrown))
    .finally(() => clearTimeout(timer));
}

function begin(env: Env, waitUntil: (work: Promise<unknown>) => void): Load {
  const begun: Load = { recommender: Recommender.load(loadOptions(env)), startedAt: Date.now(), isOver: false };
  const over = begun.recommender.then(
    (recommender) => {
      begun.isOver = true;
      // One that was given up is better than one that is still on its way.
      if (load === undefined || !load.isOver) load = begun;
      else if (load !== begun) recommender.free();
    },
    () => {
      if (load === begun) load = undefined;
    },
  );
  waitUntil(over);
  return begun;
}

function loadOptions(env: Env): LoadOptions {
  const { ASSETS: assets, BUNDLES: bucket, BUNDLE_URL: folder = '/bundle/', PUBLIC_KEY: publicKey, MIN_ROLLBACK_INDEX: index } = env;
  // The host of an assets request is never resolved; only the path counts.
  const options: LoadOptions = { baseUrl: new URL(folder, 'https://assets.invalid/'), consent: 'none' };
  if (folder.startsWith('/')) {
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
