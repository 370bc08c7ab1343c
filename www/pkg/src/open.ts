import { checkConsent, checkFlag, checkIdleSeconds, checkRollbackIndex, checkSessionLength, record, wrongType } from './arguments.js';
import { bundleInfoFromWire } from './boundary.js';
import { fetchBundle, MANIFEST, type BundleFiles } from './bundle.js';
import { defaultConsent, effectiveConsent } from './consent.js';
import { dropDraws } from './draws.js';
import type { Engine, Trust, WireManifest } from './engine.js';
import { isErrorCode, isStopped, RecommenderError, toRecommenderError } from './errors.js';
import { dropLastGood, keepLastGood, keepRollbackIndex, lastGood, mayFallBack, seenRollbackIndex } from './last-good.js';
import { LiveEngine } from './live-engine.js';
import { inTime, LOAD_MILLIS } from './patience.js';
import type { Platform } from './platform.js';
import { rememberPopular } from './popular.js';
import { instanceOf, type BornEngine, type Instance, type Runtime } from './runtime.js';
import { reportsUrl, type Sender } from './sender.js';
import { FallbackStorage, type DeviceStorage } from './storage.js';
import type { BundleInfo, Consent, Fetch, LoadOptions, PublicKey } from './types.js';

const DEFAULT_MAX_BUNDLE_BYTES = 256 * 1024 * 1024;
const DEFAULT_MAX_SESSION_LENGTH = 200;
const DEFAULT_SESSION_IDLE_SECONDS = 1800;
const DEFAULT_SEND_TIMEOUT_SECONDS = 10;

/** How long the engine is waited for where a load's time is up. */
const ENGINE_GRACE_MILLIS = 1000;

/** Everything that a recommender is made of. */
export interface OpenedRecommender {
  engine: Engine;
  /** Whether the recommender frees the engine. */
  ownsEngine: boolean;
  manifest: WireManifest;
  bundle: BundleInfo;
  /** The consent that was given, before privacy signals. */
  consent: Consent;
  storage: DeviceStorage;
  /** Where storage did not answer in time: rejects when it turns out not to work. */
  late: Promise<unknown> | undefined;
  /** Resolves when what an earlier visit was allowed to keep and this one is not is gone. */
  forgotten: Promise<void> | undefined;
  /** Opens the storage that outlives the page, once consent allows it. */
  openStorage: () => Promise<OpenedStorage>;
  sender: Sender | undefined;
  maxSessionLength: number;
  sessionIdleSeconds: number;
  autoSend: boolean;
  /** Whether a correction is learned. */
  personalise: boolean;
}

/** A storage, and what {@link OpenedRecommender.late} says of it. */
export type OpenedStorage = Pick<OpenedRecommender, 'storage' | 'late'>;

/** Loads the engine and the bundle, and opens the storage that consent allows. */
export async function openRecommender(source: string | URL | LoadOptions, platform: Platform): Promise<OpenedRecommender> {
  const options = readOptions(source);
  const consent = options.consent === undefined ? defaultConsent() : checkConsent(options.consent);
  const maxSessionLength = checkSessionLength(options.maxSessionLength ?? DEFAULT_MAX_SESSION_LENGTH);
  const fetch = options.fetch ?? platform.fetch;
  const sessionIdleSeconds = options.sessionIdleSeconds === undefined ? undefined : checkIdleSeconds(options.sessionIdleSeconds);
  const personalise = checkFlag(options.personalise ?? false, 'personalise');
  const sender = senderOf(options, platform, fetch);
  const stores = effectiveConsent(consent) !== 'none';
  const keeps = platform.keepsBundles && stores && (options.keepBundle ?? true);
  const loading = options.engine === undefined ? loadEngine(options, platform, fetch, keeps) : undefined;
  const openStorage = (): Promise<OpenedStorage> => persistentStorage(options, platform);
  // At once, as the user may leave before the engine is there; nothing waits for it but what is stored next.
  const forgotten = stores ? undefined : forgetStored(options, platform).catch(() => {});
  // While the engine is on its way.
  const storage = stores ? openStorage() : Promise.resolve(forgetful());
  const loaded = await loading?.catch((thrown: unknown) => {
    // A caller's own storage serves its next attempt.
    if (options.storage === undefined) void storage.then((opened) => opened.storage.close?.());
    throw thrown;
  });
  const engine = loaded?.engine ?? options.engine!;
  const manifest = engine.manifest();
  return {
    engine,
    ownsEngine: options.engine === undefined,
    manifest,
    bundle: { ...bundleInfoFromWire(manifest, engine.bundleHash()), isLastGood: loaded?.isLastGood ?? false },
    consent,
    ...(await storage),
    forgotten,
    openStorage,
    sender,
    maxSessionLength,
    sessionIdleSeconds: sessionIdleSeconds ?? idleSecondsOf(manifest),
    autoSend: options.autoSend ?? true,
    personalise,
  };
}

/** Only where sessions were trained on, each for itself, does a new one begin with nothing. */
function idleSecondsOf(manifest: WireManifest): number {
  return manifest.training?.split === 'next-click' ? DEFAULT_SESSION_IDLE_SECONDS : Infinity;
}

/** All of them: a misspelt `publicKey` must not open what nobody has signed. */
const OPTIONS: Record<keyof LoadOptions, true> = {
  baseUrl: true, channelUrl: true, files: true, engine: true, publicKey: true, minRollbackIndex: true, wasm: true, fullWasm: true, fetch: true, signal: true,
  maxBundleBytes: true, keepBundle: true, consent: true, collectorUrl: true, storage: true, storageName: true, maxSessionLength: true,
  sessionIdleSeconds: true, personalise: true, autoSend: true, sendTimeoutSeconds: true,
};

function readOptions(source: string | URL | LoadOptions): LoadOptions {
  if (typeof source === 'string' || source instanceof URL) return { baseUrl: source };
  const options = record(source, 'options') as LoadOptions;
  for (const name of Object.keys(options)) {
    if (Object.hasOwn(OPTIONS, name)) continue;
    throw new RecommenderError('invalid_argument', 'load has no such option', { expected: Object.keys(OPTIONS).join(', '), found: name });
  }
  if ('publicKey' in options && options.publicKey === undefined) throw wrongType('publicKey', '32 bytes or 64 hex digits, or no such option', undefined);
  const given = [options.baseUrl, options.files, options.engine].filter((way) => way !== undefined);
  // Of a channel that cannot be read there may be a bundle that was kept.
  if (given.length === 1 || (given.length === 0 && options.channelUrl !== undefined)) return options;
  throw new RecommenderError('invalid_argument', 'load needs exactly one source', {
    expected: 'one of baseUrl, files and engine',
    found: `${given.length} of them`,
  });
}

/** The engine of the bundle in its folder; or, where that cannot be opened and `keeps` is true, of the last one that could. */
async function loadEngine(options: LoadOptions, platform: Platform, fetch: Fetch, keeps: boolean): Promise<LoadedEngine> {
  const { baseUrl, channelUrl, files } = options;
  const folder = baseUrl === undefined ? undefined : resolveFolder(platform, baseUrl);
  // What is kept is of the channel, as every release of one has a folder of its own.
  const series = channelUrl === undefined ? folder : resolveChannel(platform, channelUrl);
  const keys = readKeys(options.publicKey);
  const minRollbackIndex = checkRollbackIndex(options.minRollbackIndex ?? 0);
  // Asked anew for each bundle: time goes on, and another page may have seen a later bundle.
  const trust = async (): Promise<Trust> => ({
    keys, now: Math.floor(Date.now() / 1000),
    leastRollbackIndex: Math.max(minRollbackIndex, series === undefined || !keeps ? 0 : await seenRollbackIndex(series)),
  });
  const runtimes = loader(options, platform, fetch);
  const { signal: _, ...lasting } = options;
  const open = async (read: (options: LoadOptions, only?: Uint8Array) => Promise<BundleFiles>): Promise<LoadedEngine> => {
    // The engine and the bundle travel at the same time, and either's failure ends the wait for the other.
    const [bundle, asked] = await Promise.all([read(options), trust(), engineInTime(runtimes.first, options.signal)]);
    const { instance, ...opened } = await runtimes.open(bundle, asked);
    // Another engine's trap may have come in between.
    const { engine } = opened.generation === instance.numDiscarded ? opened : construct(instance, bundle, asked);
    const manifest = bundle.files[MANIFEST];
    // What took its place could stop the instance, too, and all for nothing.
    const live = new LiveEngine(engine, instance, async () => construct(instance, await read(lasting, manifest), await trust()));
    rememberPopular(live, bundle.files, files !== undefined);
    return { engine: live, files: bundle, isLastGood: false };
  };
  const fromSource = (reload: boolean) => open((options, only) => readFiles(options, platform, fetch, reload, only));
  if (files !== undefined || series === undefined) return fromSource(false);
  try {
    if (folder === undefined) throw new RecommenderError('not_found', 'no bundle of the channel is kept here', { hint: 'load with the baseUrl that followChannel gives' });
    // A cache may hold a damaged or outdated copy; the second refusal is final.
    const loaded = await fromSource(false).catch((thrown: unknown) => {
      const error = toRecommenderError(thrown, 'internal', 'the bundle cannot be opened');
      if (error.code !== 'hash_mismatch' && error.code !== 'file_truncated') throw error;
      return fromSource(true);
    });
    if (keeps && !options.signal?.aborted) {
      void keepLastGood(series, loaded.engine.bundleHash(), loaded.files);
      // What nobody has signed says nothing of later bundles.
      if (keys.length > 0) void keepRollbackIndex(series, loaded.engine.manifest().rollback_index ?? 0);
    }
    return loaded;
  } catch (thrown) {
    const kept = keeps && mayFallBack(thrown) ? await lastGood(series) : undefined;
    if (kept === undefined || bytesOf(kept) > maxBytesOf(options)) throw thrown;
    // Another page may keep another one, which would not be the same engine again after a trap.
    const loaded = await open(async () => kept).catch((later: unknown) => {
      // Nothing is fetched for what is kept but the engine.
      throw folder === undefined || isUnfetched(later) ? later : thrown;
    });
    return { ...loaded, isLastGood: true };
  }
}

function isUnfetched(thrown: unknown): boolean {
  return thrown instanceof RecommenderError && (thrown.code === 'io' || thrown.code === 'not_found');
}

/** The engine, unless it does not come until a second after `signal`. */
function engineInTime(engine: Promise<Instance>, signal: AbortSignal | undefined): Promise<Instance> {
  if (signal === undefined) return engine;
  let timer: ReturnType<typeof setTimeout> | undefined;
  const wait = (): void => {
    const code = isStopped(signal) ? 'cancelled' : 'io';
    timer = setTimeout(() => giveUp(new RecommenderError(code, 'the engine was not there in time')), ENGINE_GRACE_MILLIS);
  };
  let giveUp: (error: RecommenderError) => void;
  const late = new Promise<never>((_, reject) => {
    giveUp = reject;
  });
  if (signal.aborted) wait();
  else signal.addEventListener('abort', wait);
  return Promise.race([engine, late]).finally(() => {
    clearTimeout(timer);
    signal.removeEventListener('abort', wait);
  });
}

interface LoadedEngine {
  engine: Engine;
  files: BundleFiles;
  isLastGood: boolean;
}

interface Opened extends BornEngine {
  instance: Instance;
}

/** Opens bundles with the first runtime of a platform, and with the full one where a bundle needs it. */
function loader({ wasm, fullWasm }: LoadOptions, { runtimes: { slim, full } }: Platform, fetch: Fetch): {
  first: Promise<Instance>;
  open(bundle: BundleFiles, trust: Trust): Promise<Opened>;
} {
  const compile = (runtime: Runtime): Promise<Instance> =>
    instanceOf(runtime, fetch, runtime === full ? (fullWasm ?? (slim === undefined ? wasm : undefined)) : wasm);
  const first = compile((slim ?? full)!);
  first.catch(() => {});
  return {
    first,
    async open(bundle, trust) {
      try {
        return construct(await first, bundle, trust);
      } catch (thrown) {
        if (!(thrown instanceof RecommenderError) || thrown.code !== 'model_not_slim') throw thrown;
        if (full === undefined) {
          const hint = "import from 'sanderling/full', which has the full runtime";
          throw new RecommenderError(thrown.code, thrown.summary, { ...thrown.details, hint }, thrown);
        }
        return construct(await compile(full), bundle, trust);
      }
    },
  };
}

function construct(instance: Instance, bundle: BundleFiles, trust: Trust): Opened {
  if (instance.isDisabled) throw instance.exhausted();
  try {
    return { ...instance.open(bundle, trust), instance };
  } catch (thrown) {
    if (!isErrorCode((thrown as { code?: unknown } | null)?.code)) instance.discard();
    throw toRecommenderError(thrown, 'internal', 'the bundle cannot be opened');
  }
}

async function readFiles(options: LoadOptions, platform: Platform, fetch: Fetch, reload: boolean, only: Uint8Array | undefined): Promise<BundleFiles> {
  // A caller may change its own files while they are hashed; those are hashed inside wasm.
  if (options.baseUrl === undefined) return { files: givenFiles(options.files) };
  return fetchBundle({
    folder: resolveFolder(platform, options.baseUrl),
    fetch,
    platform,
    signed: options.publicKey !== undefined,
    maxBundleBytes: maxBytesOf(options),
    signal: options.signal,
    reload,
    only,
  });
}

function maxBytesOf({ maxBundleBytes }: LoadOptions): number {
  return maxBundleBytes ?? DEFAULT_MAX_BUNDLE_BYTES;
}

/** Of the files that a manifest names. */
function bytesOf({ files }: BundleFiles): number {
  return Object.entries(files).reduce((sum, [name, { length }]) => sum + (name.startsWith('manifest.') ? 0 : length), 0);
}

function givenFiles(files: LoadOptions['files']): Record<string, Uint8Array> {
  const entries = Object.entries(record(files, 'files'));
  return Object.fromEntries(
    entries.map(([name, bytes]) => {
      if (bytes instanceof Uint8Array) return [name, bytes];
      if (bytes instanceof ArrayBuffer) return [name, new Uint8Array(bytes)];
      throw wrongType(`files[${JSON.stringify(name)}]`, 'a Uint8Array or an ArrayBuffer', bytes);
    }),
  );
}

function resolveFolder(platform: Platform, baseUrl: string | URL): URL {
  try {
    return platform.resolve(baseUrl);
  } catch (thrown) {
    throw new RecommenderError('invalid_argument', 'baseUrl is not a URL', { found: String(baseUrl) }, thrown);
  }
}

/** With its query, which may say which channel it is, and without a fragment, which caches do not tell apart. */
function resolveChannel(platform: Platform, channelUrl: string | URL): URL {
  const url = absolute(platform, channelUrl);
  url.hash = '';
  return url;
}

function absolute(platform: Platform, channelUrl: string | URL): URL {
  try {
    return new URL(channelUrl);
  } catch {
    // Not every host has an address that others could be relative to.
  }
  try {
    return new URL(channelUrl, platform.resolve('./'));
  } catch (thrown) {
    throw new RecommenderError('invalid_argument', 'channelUrl is not a URL', { found: String(channelUrl) }, thrown);
  }
}

function readKeys(keys: LoadOptions['publicKey']): Uint8Array[] {
  if (keys === undefined) return [];
  // None at all would open what nobody has signed.
  if (Array.isArray(keys) && keys.length === 0) throw wrongType('publicKey', 'at least one key', keys);
  return (Array.isArray(keys) ? keys as PublicKey[] : [keys as PublicKey]).map(readKey);
}

function readKey(key: PublicKey): Uint8Array {
  // A caller may change its own bytes while the bundle is on its way.
  if (key instanceof Uint8Array && key.length === 32) return key.slice();
  if (typeof key === 'string' && /^[0-9a-f]{64}$/i.test(key)) {
    return Uint8Array.from(key.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16));
  }
  throw wrongType('publicKey', '32 bytes or 64 hex digits', key);
}

/** The caller's storage, or the platform's where it works or may work yet, or memory that is known to forget. */
async function persistentStorage(options: LoadOptions, platform: Platform): Promise<OpenedStorage> {
  const storage = options.storage ?? platform.openStorage(options.storageName ?? 'sanderling');
  if (storage === undefined) return forgetful();
  try {
    storage.begin?.();
    const answer = storage.entries();
    const isLate = await inTime(answer.then(() => false), LOAD_MILLIS, () => true);
    return { storage, late: isLate ? answer : undefined };
  } catch {
    return forgetful();
  }
}

function forgetful(): OpenedStorage {
  return { storage: new FallbackStorage(), late: undefined };
}

/** Without consent nothing is kept, and what an earlier visit was allowed to keep is removed. */
async function forgetStored(options: LoadOptions, platform: Platform): Promise<void> {
  dropDraws();
  const storage = options.storage ?? platform.openStorage(options.storageName ?? 'sanderling');
  await Promise.all([platform.keepsBundles && dropLastGood(), (storage?.destroy?.() ?? storage?.clear())?.catch(() => {})]);
}

function senderOf(options: LoadOptions, platform: Platform, fetch: Fetch): Sender | undefined {
  if (options.collectorUrl === undefined) return undefined;
  try {
    const url = reportsUrl(options.collectorUrl, (globalThis as { location?: { href: string } }).location?.href);
    const timeoutSeconds = options.sendTimeoutSeconds ?? DEFAULT_SEND_TIMEOUT_SECONDS;
    return { url, fetch, request: platform.reportRequest, timeoutSeconds };
  } catch (thrown) {
    throw new RecommenderError('invalid_argument', 'collectorUrl is not a URL', { found: String(options.collectorUrl) }, thrown);
  }
}
