import { Recommender, RecommenderError, type LoadOptions } from 'sanderling';
import { followChannel, type ChannelChoice } from 'sanderling/channel';

import type { Env } from './env.js';

type Fetch = NonNullable<LoadOptions['fetch']>;

/** An isolate has 128 MB: for the files of a bundle, for it and the one before it in wasm memory, and for everything else. */
const MAX_BUNDLE_BYTES = 24 * 1024 * 1024;
const DEFAULT_ADDRESS = '/bundle/';
const DEFAULT_CHECK_SECONDS = 60;
const CHANNEL_FILE = '/channel.json';
/** Canaries are for devices, and at most half of them: whoever draws this loads the champion. */
const CHAMPION_DRAW = 0.99;

/** The largest `rollback_index` of a signed bundle that was loaded in this isolate. */
let seenRollbackIndex = 0;

/** How long a bundle is served before a look for another one; for ever where there cannot be one. */
export function checkMillisOf({ CHECK_SECONDS: given, ...env }: Env): number {
  const seconds = given === undefined || given === '' ? DEFAULT_CHECK_SECONDS : Number(given);
  if (!(seconds >= 0)) throw new RecommenderError('invalid_argument', 'CHECK_SECONDS is no number of seconds', { expected: 'a number from 0', found: String(given) });
  // The files beside a worker are of its version: another one comes with another worker.
  return seconds === 0 || isBeside(env) ? Infinity : 1000 * seconds;
}

/** Loads the bundle that is there now. */
export async function open(env: Env): Promise<Recommender> {
  const { PUBLIC_KEY: publicKey, MIN_ROLLBACK_INDEX: index } = env;
  const { baseUrl, fetch: get } = source(env);
  const named = isChannel(baseUrl) ? await champion(baseUrl, get) : undefined;
  const options: LoadOptions = { baseUrl: named?.baseUrl ?? baseUrl, fetch: get, consent: 'none', maxBundleBytes: MAX_BUNDLE_BYTES };
  if (publicKey) options.publicKey = publicKey.split(',').map((key) => key.trim());
  options.minRollbackIndex = Math.max(Number(index || 0), seenRollbackIndex);
  const recommender = await Recommender.load(options);
  const { hash } = recommender.bundle;
  if (named !== undefined && named.bundleHash !== hash) {
    recommender.free();
    throw new RecommenderError('hash_mismatch', 'the channel names another bundle than its folder has', { expected: named.bundleHash, found: hash });
  }
  // What nobody has signed says nothing of later bundles.
  if (publicKey) seenRollbackIndex = Math.max(seenRollbackIndex, recommender.engine.manifest().rollback_index ?? 0);
  return recommender;
}

/** The hash of the bundle that is there now: of its manifest, or the one that a channel names. */
export async function presentHash(env: Env): Promise<string> {
  const { baseUrl, fetch: get } = source(env);
  if (isChannel(baseUrl)) return (await champion(baseUrl, get)).bundleHash;
  const manifest = await get(new URL('manifest.json', baseUrl).href);
  if (!manifest.ok) throw new RecommenderError('io', 'cannot fetch manifest.json', { found: `HTTP status ${manifest.status}` });
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', await manifest.arrayBuffer()));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

function champion(channel: URL, get: Fetch): Promise<ChannelChoice> {
  return followChannel(channel, { consent: 'none', draw: CHAMPION_DRAW, fetch: get });
}

function isChannel({ pathname }: URL): boolean {
  return pathname.endsWith(CHANNEL_FILE);
}

/** Whether the bundle is deployed with the worker. */
function isBeside({ ASSETS: assets, BUNDLES: bucket, BUNDLE_URL: address = DEFAULT_ADDRESS }: Env): boolean {
  return assets !== undefined && bucket === undefined && !hasScheme(address);
}

function hasScheme(address: string): boolean {
  return /^[a-z][a-z0-9+.-]*:/i.test(address);
}

function source(env: Env): { baseUrl: URL; fetch: Fetch } {
  const { ASSETS: assets, BUNDLES: bucket, BUNDLE_URL: address = DEFAULT_ADDRESS } = env;
  // The host of an assets request is never resolved; only the path counts.
  const baseUrl = new URL(address, 'https://assets.invalid/');
  if (!isChannel(baseUrl)) baseUrl.pathname = baseUrl.pathname.replace(/\/?(manifest\.json)?$/, '/');
  if (isBeside(env)) return { baseUrl, fetch: (url, init) => assets!.fetch(url, init) };
  if (bucket === undefined || hasScheme(address)) return { baseUrl, fetch: (url, init) => fetch(url, init) };
  return { baseUrl, fetch: async (url) => objectOf(await bucket.get(decodeURIComponent(new URL(url).pathname.slice(1)))) };
}

function objectOf(object: { body: ReadableStream } | null): Response {
  return object === null ? new Response(null, { status: 404 }) : new Response(object.body);
}
