import type { WireManifest } from './engine.js';
import { isStopped, RecommenderError, toRecommenderError } from './errors.js';
import type { Platform } from './platform.js';
import type { Fetch } from './types.js';

/** Length of the pieces of a file that are hashed by themselves, as the format has it. */
const PIECE_BYTES = 256 * 1024;
const SHA256_BYTES = 32;

/** What an HTML page begins with. */
const LESS_THAN = 0x3c;

/** Largest manifest and signature that are read. */
const MAX_MANIFEST_BYTES = 256 * 1024;
export const MANIFEST = 'manifest.json';
export const SIGNATURE = 'manifest.sig';
/** For people and for adding items; the engine does not ask for them. */
const NOT_FOR_DEVICES = new Set(['card', 'content']);
/** The ranker as ONNX, for other tools where the bundle has the same one as trees. */
const RANKER_ROLE = 'ranker';
const TREES_ROLE = 'trees';

/** Where a bundle's files come from and how much of them is accepted. */
export interface BundleSource {
  folder: URL;
  fetch: Fetch;
  platform: Platform;
  signed: boolean;
  maxBundleBytes: number;
  signal: AbortSignal | undefined;
  /** Whether caches are passed by, after a load that met a damaged or outdated copy. */
  reload: boolean;
  /** The manifest of the one bundle that is wanted: what took its place is not fetched. */
  only: Uint8Array | undefined;
}

/** A bundle's files by name, and SHA-256 digests of those that the platform hashed, in pieces where the manifest has them so. */
export interface BundleFiles {
  files: Record<string, Uint8Array>;
  digests?: Record<string, Uint8Array>;
}

/**
 * Fetches the manifest, then every file of it that the engine needs, in parallel and under a URL that changes
 * with the content. Nothing is judged here: lengths and hashes are the engine's to verify, and a
 * manifest that cannot be read is handed to it for its typed refusal.
 */
export async function fetchBundle(source: BundleSource): Promise<BundleFiles> {
  const manifest = await fetchFile(source, MANIFEST, MAX_MANIFEST_BYTES, source.platform.freshRequest);
  if (source.only !== undefined && String(source.only) !== String(manifest)) throw new RecommenderError('not_found', 'the bundle is not there any more');
  const files: Record<string, Uint8Array> = { [MANIFEST]: manifest };
  const digests: Record<string, Uint8Array> = {};
  const named = namedFiles(manifest);
  const total = named.reduce((sum, file) => sum + file.bytes, 0);
  if (total > source.maxBundleBytes) {
    throw new RecommenderError('limit_exceeded', 'the bundle is too large', {
      expected: `at most ${source.maxBundleBytes} bytes`,
      found: `${total} bytes`,
    });
  }
  const stop = new AbortController();
  const together = { ...source, signal: anySignal(source.signal, stop.signal) };
  const jobs = named.map(async (file) => {
    files[file.path] = await fetchFile(together, file.path, file.bytes, source.platform.immutableRequest, file.sha256.slice(0, 16));
    await addDigest(digests, files, file);
  });
  jobs.push(addDigest(digests, files, { path: MANIFEST }));
  if (source.signed) jobs.push(fetchSignature(together, files));
  try {
    await Promise.all(jobs);
  } catch (thrown) {
    stop.abort();
    throw thrown;
  }
  return { files, digests };
}

/** Digests of a bundle's files by name, of those that are there. Only for bytes that nobody else can change any more. */
export async function digestsOf(files: Record<string, Uint8Array>): Promise<Record<string, Uint8Array>> {
  const digests: Record<string, Uint8Array> = {};
  const named = [{ path: MANIFEST }, ...namedFiles(files[MANIFEST] ?? new Uint8Array())];
  await Promise.all(named.map((file) => addDigest(digests, files, file)));
  return digests;
}

async function addDigest(
  digests: Record<string, Uint8Array>, files: Record<string, Uint8Array>, { path, pieces_sha256: pieces }: { path: string; pieces_sha256?: string },
): Promise<void> {
  try {
    digests[path] = await (typeof pieces === 'string' ? piecesSha256Of : sha256Of)(files[path]!);
  } catch {
    // No WebCrypto, as in a page without TLS, or no such file: the engine hashes.
  }
}

/** The platform's SHA-256, several times as fast as wasm's. Only for bytes that nobody else can change any more. */
async function sha256Of(bytes: Uint8Array): Promise<Uint8Array> {
  return new Uint8Array(await crypto.subtle.digest('SHA-256', bytes as BufferSource));
}

/** The SHA-256 of those of its pieces, one behind the other: Chromium takes twice as long for a large file in one piece. */
async function piecesSha256Of(bytes: Uint8Array): Promise<Uint8Array> {
  const pieces = Array.from({ length: Math.ceil(bytes.length / PIECE_BYTES) }, (_, at) =>
    sha256Of(bytes.subarray(at * PIECE_BYTES, (at + 1) * PIECE_BYTES)));
  const digests = new Uint8Array(pieces.length * SHA256_BYTES);
  (await Promise.all(pieces)).forEach((digest, at) => digests.set(digest, at * SHA256_BYTES));
  return sha256Of(digests);
}

async function fetchSignature(source: BundleSource, files: Record<string, Uint8Array>): Promise<void> {
  try {
    files[SIGNATURE] = await fetchFile(source, SIGNATURE, MAX_MANIFEST_BYTES, source.platform.freshRequest);
  } catch (thrown) {
    // The engine reports a missing signature under its own code.
    if (!(thrown instanceof RecommenderError && thrown.code === 'file_missing')) throw thrown;
  }
}

/** The files of a manifest that a device loads. */
export function filesForDevices(files: WireManifest['files']): WireManifest['files'][string][] {
  const isUnused = (role: string) => NOT_FOR_DEVICES.has(role) || (role === RANKER_ROLE && TREES_ROLE in files);
  return Object.entries(files).flatMap(([role, file]) => (isUnused(role) ? [] : [file]));
}

/** The plainly named files that the engine needs; none of a manifest that it will refuse. */
function namedFiles(manifest: Uint8Array): WireManifest['files'][string][] {
  try {
    const decoded = JSON.parse(new TextDecoder().decode(manifest)) as Partial<WireManifest> | null;
    const files = filesForDevices(decoded?.files ?? {});
    return decoded?.format_version === 1 && files.every(isPlain) ? files : [];
  } catch {
    return [];
  }
}

function isPlain(file: unknown): boolean {
  const { path, bytes, sha256 } = (file ?? {}) as Record<string, unknown>;
  return (
    typeof path === 'string' && /^[A-Za-z0-9_-][A-Za-z0-9._-]*$/.test(path) &&
    Number.isSafeInteger(bytes) && (bytes as number) >= 0 &&
    typeof sha256 === 'string'
  );
}

async function fetchFile(
  source: BundleSource, name: string, maxBytes: number, request: RequestInit, key?: string,
): Promise<Uint8Array> {
  const url = new URL(name, source.folder);
  if (key !== undefined && url.protocol !== 'file:') url.searchParams.set('sha256', key);
  const init: RequestInit = { ...request };
  if (source.reload && init.cache !== undefined) init.cache = 'reload';
  if (source.signal !== undefined) init.signal = source.signal;
  try {
    const { fetch, readFile } = source.platform;
    if (url.protocol === 'file:' && readFile !== undefined && source.fetch === fetch) {
      const bytes = await readFile(url, maxBytes, source.signal);
      if (bytes === undefined) throw new RecommenderError('file_missing', `cannot read ${name}`, { found: `no file at ${url.href}` });
      if (bytes.length > maxBytes) throw tooLong(name, maxBytes, bytes.length);
      return bytes;
    }
    const response = await source.fetch(url.href, init);
    if (!response.ok) throw refusal(name, url, response.status);
    const bytes = await readBounded(response, name, maxBytes);
    // Hosts of single-page applications answer for every address with their page.
    if (bytes[0] === LESS_THAN && /^text\/html/i.test(response.headers.get('content-type') ?? '')) {
      throw new RecommenderError('file_missing', `cannot fetch ${name}`, { found: `an HTML page at ${url.href}`, hint: 'baseUrl is the folder of the bundle' });
    }
    return bytes;
  } catch (thrown) {
    if (isStopped(source.signal)) throw toRecommenderError(thrown, 'cancelled', 'the load was stopped');
    throw toRecommenderError(thrown, 'io', `cannot fetch ${url.href}`);
  }
}

function refusal(name: string, url: URL, status: number): RecommenderError {
  const missing = status === 404 || status === 410;
  return new RecommenderError(missing ? 'file_missing' : 'io', `cannot fetch ${name}`, {
    found: `HTTP status ${status} at ${url.href}`,
  });
}

/** Reads a body, and stops at the first byte beyond what the manifest allows. */
async function readBounded(response: Response, name: string, maxBytes: number): Promise<Uint8Array> {
  if (response.body === null) return new Uint8Array();
  // A length that is that of the body, and allowed: several times as fast as chunk by chunk. Another origin's answer does not show
  // whether it was compressed, and then a short one may become a long body.
  const isPlain = response.type !== 'cors' && !response.headers.has('content-encoding');
  const stated = isPlain ? response.headers.get('content-length') : null;
  if (stated !== null && Number(stated) <= maxBytes) {
    const bytes = new Uint8Array(await response.arrayBuffer());
    if (bytes.length > maxBytes) throw tooLong(name, maxBytes, bytes.length);
    return bytes;
  }
  const chunks: Uint8Array[] = [];
  let length = 0;
  const reader = (response.body as ReadableStream<Uint8Array>).getReader();
  for (let step = await reader.read(); !step.done; step = await reader.read()) {
    chunks.push(step.value);
    length += step.value.byteLength;
    if (length > maxBytes) {
      await reader.cancel().catch(() => {});
      throw tooLong(name, maxBytes, length);
    }
  }
  const bytes = new Uint8Array(length);
  let offset = 0;
  for (const chunk of chunks) {
    bytes.set(chunk, offset);
    offset += chunk.byteLength;
  }
  return bytes;
}

function tooLong(name: string, maxBytes: number, length: number): RecommenderError {
  return new RecommenderError(name === MANIFEST ? 'limit_exceeded' : 'file_truncated', `${name} has the wrong length`, {
    expected: name === MANIFEST ? `at most ${maxBytes} bytes` : `${maxBytes} bytes`,
    found: `at least ${length} bytes`,
    hint: 'fetch it again',
  });
}

/** Aborts when either does; `AbortSignal.any` is younger than some browsers. */
export function anySignal(first: AbortSignal | undefined, second: AbortSignal): AbortSignal {
  if (first === undefined) return second;
  const either = new AbortController();
  for (const signal of [first, second]) {
    if (signal.aborted) either.abort(signal.reason);
    else signal.addEventListener('abort', () => either.abort(signal.reason), { once: true });
  }
  return either.signal;
}
