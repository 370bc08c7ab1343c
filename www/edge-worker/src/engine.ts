import { RecommenderError, type Recommender } from 'sanderling';

import { open, presentHash } from './bundle.js';
import type { Env } from './env.js';

/** How long a load is waited for. Hosts drop what a request began some 30 seconds after its end, and a dropped load never ends. */
const LOAD_MILLIS = 25_000;
/** How long a load that failed answers those that come after it, which would fetch the same bundle for the same refusal. */
const FAILED_MILLIS = 5_000;
/** How long after an attempt to load in the place of an engine that stopped there is another. */
const REPLACE_MILLIS = 60_000;
const DEFAULT_CHECK_SECONDS = 60;

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
/** When the bundle that is there was last looked at. */
let checkedAt = -Infinity;
/** Why the last look served nothing else, if it should have. */
let lastFailure: string | undefined;

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
  const running = await Promise.race([recommender, late])
    .then((loaded) => other() ?? loaded, (thrown: unknown) => other() ?? Promise.reject(thrown))
    .finally(() => clearTimeout(timer));
  const checkMillis = 1000 * Number(env.CHECK_SECONDS || DEFAULT_CHECK_SECONDS);
  if (checkMillis > 0 && Date.now() - checkedAt > checkMillis) waitUntil(refresh(running, env, waitUntil).catch(logged));
  return running;
}

/** Loads the bundle that is there now where that is another one than `before`, which answers until then, and after it if it is refused. */
async function refresh(before: Recommender, env: Env, waitUntil: WaitUntil): Promise<void> {
  checkedAt = Date.now();
  if ((await presentHash(env)) !== before.bundle.hash && load?.loaded === before) await begin(env, waitUntil, before).recommender;
  lastFailure = undefined;
}

/** Once, however often it is found again. */
function logged(thrown: unknown): void {
  const failure = String(thrown);
  if (failure !== lastFailure) console.error('the bundle that is there now is not served; the one before is:', thrown);
  lastFailure = failure;
}

/**
 * Loads anew for an engine that has stopped and does not come back, as when its bundle is not there any more: what is there now takes its
 * place. Until then it goes on with its fallback lists.
 */
export function replace(stopped: Recommender, env: Env, waitUntil: WaitUntil): void {
  if (load?.loaded !== stopped || Date.now() - replacedAt < REPLACE_MILLIS) return;
  replacedAt = Date.now();
  begin(env, waitUntil, stopped).recommender.catch(logged);
}

function isPast({ loaded, failedAt, startedAt }: Load): boolean {
  if (loaded !== undefined) return false;
  return failedAt === undefined ? Date.now() - startedAt > LOAD_MILLIS : Date.now() - failedAt > FAILED_MILLIS;
}

/** Begins to load what is there now, to take the place of `before`, if there is one. */
function begin(env: Env, waitUntil: WaitUntil, before?: Recommender): Load {
  checkedAt = Date.now();
  const begun: Load = { recommender: open(env), startedAt: Date.now() };
  const over = begun.recommender.then(
    (recommender) => {
      begun.loaded = recommender;
      if (load === begun) return;
      // One that was given up is better than one that is still on its way, and any than one that stopped.
      const current = load?.loaded;
      if (current !== before && current?.engine.state === 'running') return recommender.free();
      load = begun;
      // Behind those that have just been given it.
      setTimeout(() => current?.free(), 0);
    },
    () => {
      begun.failedAt = Date.now();
    },
  );
  waitUntil(over);
  return begun;
}
