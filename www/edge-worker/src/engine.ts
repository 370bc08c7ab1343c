import { RecommenderError, type Recommender } from 'sanderling';

import { checkMillisOf, open, presentHash } from './bundle.js';
import type { Env } from './env.js';

/** How long a load is waited for. Hosts drop what a request began some 30 seconds after its end, and a dropped load never ends. */
const LOAD_MILLIS = 25_000;
/** How long a load that failed answers those that come after it, which would fetch the same bundle for the same refusal. */
const FAILED_MILLIS = 5_000;
/** How long after an attempt to load in the place of an engine that stopped there is another. */
const REPLACE_MILLIS = 60_000;
/** Most of the time after which a bundle that was refused is tried again. */
const MAX_PAUSE_MILLIS = 3_600_000;

interface Load {
  recommender: Promise<Recommender>;
  startedAt: number;
  failedAt?: number;
  loaded?: Recommender;
}

/** What is there instead of what is served, and could not be. */
interface Refused {
  hash: string;
  failure: string;
  pauseMillis: number;
  againAt: number;
}

type WaitUntil = (work: Promise<unknown>) => void;

let load: Load | undefined;
/** When something was last loaded in the place of an engine that stopped. */
let replacedAt = -Infinity;
/** When the bundle that is there was last looked at. */
let checkedAt = -Infinity;
/** When the look began that has not ended. */
let lookingSince = -Infinity;
let refused: Refused | undefined;
/** Why nothing was found, the last time. */
let lastMiss: string | undefined;
/** Why nothing could be loaded, the last time. */
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
    timer = setTimeout(() => {
      const error = new RecommenderError('io', 'the bundle takes too long to load');
      logFailure(error);
      reject(error);
    }, LOAD_MILLIS);
  });
  // Another load may be over before this one, which is freed or given up then.
  const other = (): Promise<Recommender> | undefined => (load?.loaded === undefined ? undefined : load.recommender);
  const running = await Promise.race([recommender, late])
    .then((loaded) => other() ?? loaded, (thrown: unknown) => other() ?? Promise.reject(thrown))
    .finally(() => clearTimeout(timer));
  if (Date.now() - checkedAt > checkMillisOf(env)) waitUntil(refresh(running, env, waitUntil));
  return running;
}

/**
 * Loads anew for an engine that has stopped and does not come back, as when its bundle is not there any more: what is there now takes its
 * place. Until then it goes on with its fallback lists.
 */
export function replace(stopped: Recommender, env: Env, waitUntil: WaitUntil): void {
  if (Date.now() - replacedAt < REPLACE_MILLIS) return;
  replacedAt = Date.now();
  waitUntil(refresh(stopped, env, waitUntil));
}

/** Loads the bundle that is there now where it is another one than `before`, which answers until then, and after it if it is refused; or where that has stopped. */
async function refresh(before: Recommender, env: Env, waitUntil: WaitUntil): Promise<void> {
  // A host may have dropped the one before, which then never ends. Where too many engines have failed none helps.
  if (Date.now() - lookingSince < LOAD_MILLIS || before.engine.state === 'over') return;
  lookingSince = checkedAt = Date.now();
  let hash: string | undefined;
  try {
    hash = await presentHash(env);
    lastMiss = undefined;
    if (refused?.hash === hash && Date.now() < refused.againAt) return;
    const isWanted = hash !== before.bundle.hash || before.engine.state === 'stopped';
    if (isWanted && load?.loaded === before) await begin(env, waitUntil, before).recommender;
    refused = undefined;
  } catch (thrown) {
    // Where nothing was found, what was refused before stays refused.
    if (hash === undefined) logMiss(thrown);
    else refused = refusedBy(thrown, hash, Math.min(checkMillisOf(env), REPLACE_MILLIS));
    // One that was stopped with it is being opened again, if its bundle is there still.
    await before.engine.settled?.();
  } finally {
    lookingSince = -Infinity;
  }
}

function refusedBy(thrown: unknown, hash: string, firstPause: number): Refused {
  const before = refused?.hash === hash ? refused : undefined;
  const failure = String(thrown);
  if (failure !== before?.failure) console.error('the bundle that is there now is not served; the one before is:', thrown);
  // What stops the engine when it is opened takes the other one with it, as both are in one instance: once is enough.
  const stops = !(thrown instanceof RecommenderError) || thrown.code === 'internal' || thrown.code === 'inference_failed';
  const pauseMillis = stops ? Infinity : before === undefined ? firstPause : Math.min(2 * before.pauseMillis, MAX_PAUSE_MILLIS);
  return { hash, failure, pauseMillis, againAt: Date.now() + pauseMillis };
}

/** Once, however often it is found again. */
function logMiss(thrown: unknown): void {
  const miss = String(thrown);
  if (miss !== lastMiss) console.error('whether there is another bundle cannot be seen:', thrown);
  lastMiss = miss;
}

/** Visitors are told the code alone; once, however often it fails again. */
function logFailure(thrown: unknown): void {
  const failure = String(thrown);
  if (failure !== lastFailure) console.error('no bundle can be loaded:', thrown);
  lastFailure = failure;
}

/** A turn of the event loop later. */
function turn(): Promise<void> {
  return new Promise((done) => setTimeout(done, 0));
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
      if (load === begun) return undefined;
      // One that was given up is better than one that is still on its way, and any than one that stopped.
      const current = load?.loaded;
      if (current !== before && current?.engine.state === 'running') return recommender.free();
      load = begun;
      // Behind those that have just been given it. A host drops what it is not told to wait for.
      return turn().then(() => current?.free());
    },
    (thrown: unknown) => {
      begun.failedAt = Date.now();
      // Of one that takes another's place whoever asked for it tells.
      if (before === undefined) logFailure(thrown);
    },
  );
  waitUntil(over);
  return begun;
}
