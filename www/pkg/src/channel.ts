/**
 * Which bundle of a channel this device loads: the champion, or by a draw of its own the canary. Nobody else learns of the draw; what a device
 * reports names the bundle that it loaded, and nothing else.
 */
import { effectiveConsent, defaultConsent } from './consent.js';
import { drawKey, dropDraws } from './draws.js';
import { isStopped, RecommenderError, toRecommenderError } from './errors.js';
import type { Consent, Fetch } from './types.js';

const MAX_BYTES = 16 * 1024;
const MAX_SHARE = 0.5;

/** How a channel is followed. */
export interface ChannelOptions {
  /** As for `Recommender.load`: with `none` nothing is kept, what was is forgotten, and the device draws anew each time. */
  consent?: Consent | undefined;
  /** A number from 0, under 1, in place of the device's own draw: for hosts that keep one, such as a worker with a cookie. */
  draw?: number | undefined;
  /** In place of the global `fetch`. */
  fetch?: Fetch | undefined;
  /** Stops the request; after `AbortSignal.timeout` the code is `io`. */
  signal?: AbortSignal | undefined;
}

/** The bundle to load: `const { baseUrl, channelUrl } = choice; Recommender.load({ baseUrl, channelUrl })`. */
export interface ChannelChoice {
  /** The channel, absolute: what its bundles have in common. */
  channelUrl: string;
  /** The bundle's folder. */
  baseUrl: string;
  /** SHA-256 of its manifest: `recommender.bundle.hash` once it is loaded. */
  bundleHash: string;
  /** Its version. */
  version: number;
  /** Whether it is on trial. */
  isCanary: boolean;
  /** The champion's folder, for when a canary cannot be loaded. */
  championUrl: string;
}

interface Release { bundle_sha256: string; path: string; since: number; version: number }
interface Channel { canary: { release: Release; share: number } | null; champion: Release; format_version: number; name: string }

/**
 * Reads `channel.json` at `url` and chooses. A device that may keep something draws once for each canary, so it stays with its bundle.
 *
 * Throws a `RecommenderError`: `io` or `file_missing` where the file cannot be read, `unsupported_format_version`, `invalid_argument`
 * where it is no channel.
 */
export async function followChannel(url: string | URL, options: ChannelOptions = {}): Promise<ChannelChoice> {
  const { draw } = options;
  if (draw !== undefined && !(draw >= 0 && draw < 1)) {
    throw new RecommenderError('invalid_argument', 'draw is out of range', { expected: 'a number from 0, under 1', found: String(draw) });
  }
  if (effectiveConsent(options.consent ?? defaultConsent()) === 'none') dropDraws();
  const at = absolute(url);
  const { canary, champion } = decode(await read(at, options));
  const isCanary = canary !== null && (draw ?? drawOf(at, canary.release.bundle_sha256, options)) < canary.share;
  const chosen = isCanary ? canary.release : champion;
  const folder = (release: Release) => new URL(release.path, at).href;
  return { channelUrl: at.href, baseUrl: folder(chosen), bundleHash: chosen.bundle_sha256, version: chosen.version, isCanary, championUrl: folder(champion) };
}

/** Relative to the page, or to the script of a worker. */
function absolute(url: string | URL): URL {
  const { document, location } = globalThis as { document?: { baseURI: string }; location?: { href: string } };
  try {
    return new URL(url, document?.baseURI ?? location?.href);
  } catch (thrown) {
    throw new RecommenderError('invalid_argument', 'the address of the channel is not a URL', { found: String(url) }, thrown);
  }
}

async function read(url: URL, options: ChannelOptions): Promise<string> {
  try {
    const init: RequestInit = { cache: 'no-cache', ...(options.signal && { signal: options.signal }) };
    const response = await (options.fetch ?? fetch)(url.href, init);
    if (!response.ok) {
      const missing = response.status === 404 || response.status === 410;
      throw new RecommenderError(missing ? 'file_missing' : 'io', 'cannot fetch the channel', { found: `HTTP status ${response.status} at ${url.href}` });
    }
    return await response.text();
  } catch (thrown) {
    if (isStopped(options.signal)) throw toRecommenderError(thrown, 'cancelled', 'the load was stopped');
    throw toRecommenderError(thrown, 'io', `cannot fetch ${url.href}`);
  }
}

function decode(text: string): Channel {
  const invalid = (what: string, cause?: unknown) => new RecommenderError('invalid_argument', `channel.json ${what}`, {}, cause);
  if (text.length > MAX_BYTES) throw invalid('is too large');
  let channel: Channel;
  try {
    channel = JSON.parse(text) as Channel;
  } catch (cause) {
    throw invalid('is no JSON', cause);
  }
  if (channel?.format_version !== 1) {
    throw new RecommenderError('unsupported_format_version', 'channel.json has another format version', { expected: '1', found: String(channel?.format_version) });
  }
  const { champion, canary } = channel;
  if (!isRelease(champion)) throw invalid('has no champion inside its folder');
  if (canary === null) return channel;
  if (!isRelease(canary?.release)) throw invalid('has no canary inside its folder');
  if (!(canary.share > 0 && canary.share <= MAX_SHARE)) throw invalid('gives its canary another share than over 0 and at most 0.5');
  return channel;
}

function isRelease(release: unknown): release is Release {
  const { bundle_sha256: hash, path, version } = (release ?? {}) as Record<string, unknown>;
  const inside = typeof path === 'string' && /^([\w.-]+\/)+$/.test(path) && !path.split('/').some((part) => part === '.' || part === '..');
  return inside && typeof hash === 'string' && /^[0-9a-f]{64}$/.test(hash) && Number.isSafeInteger(version);
}

/** This device's number for a canary, from 0, under 1; kept where that is allowed and possible. */
function drawOf(url: URL, hash: string, { consent = defaultConsent() }: ChannelOptions): number {
  const fresh = () => (crypto.getRandomValues(new Uint32Array(1))[0] as number) / 2 ** 32;
  if (effectiveConsent(consent) === 'none') return fresh();
  try {
    const key = drawKey(url);
    const [keptHash, keptDraw] = (localStorage.getItem(key) ?? '').split(' ');
    const kept = Number(keptDraw);
    if (keptHash === hash && kept >= 0 && kept < 1) return kept;
    const draw = fresh();
    localStorage.setItem(key, `${hash} ${draw}`);
    return draw;
  } catch {
    // Workers and servers have no such storage, and a private window may refuse it.
    return fresh();
  }
}
