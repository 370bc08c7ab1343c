/**
 * The last bundle of a folder, or of a channel, that could be opened, in the browser's Cache Storage: what a page falls back on when
 * the folder cannot be fetched, or holds a bundle that is refused.
 */
import { digestsOf, SIGNATURE, type BundleFiles } from './bundle.js';
import { RecommenderError } from './errors.js';

const CACHE = 'sanderling-bundles';
/** Most bundles that are kept; those that were kept first give way. */
const MAX_KEPT = 4;
const INDEX_QUERY = '?rollback_index';
/** Header of a kept bundle that names it and its signature. */
const NAME_HEADER = 'x-sanderling-bundle';
/** Refusals that say something of the folder, and not of this device or, but for a limit, of the caller's arguments. */
const FOLDER_IS_BAD = new Set([
  'io', 'internal', 'not_found', 'limit_exceeded', 'file_missing', 'file_truncated', 'hash_mismatch', 'signature_missing', 'signature_invalid', 'bundle_expired', 'bundle_rolled_back', 'manifest_invalid',
  'unsupported_format_version', 'incompatible_features', 'items_invalid', 'neighbours_invalid', 'vocabulary_invalid', 'segments_invalid', 'baseline_invalid',
  'model_invalid',
]);

/** Whether an older bundle is better than `thrown`. */
export function mayFallBack(thrown: unknown): boolean {
  return thrown instanceof RecommenderError && FOLDER_IS_BAD.has(thrown.code);
}

/** Keeps a bundle that was opened; a full or missing cache is no reason to fail. */
export async function keepLastGood(folder: URL, hash: string, { files }: BundleFiles): Promise<void> {
  try {
    const cache = await caches.open(CACHE);
    const kept = await cache.match(folder.href);
    // Keys may change while the bundle stays: what was kept without a signature, or with another one, is no good for them.
    const signature = files[SIGNATURE];
    // Headers lose a space at their end.
    const name = signature === undefined ? hash : `${hash} ${btoa(String.fromCharCode(...signature))}`;
    if (kept?.headers.get(NAME_HEADER) === name) return;
    // One entry for all files: it is there whole, or not at all.
    const form = new FormData();
    for (const [name, bytes] of Object.entries(files)) form.set(name, new Blob([bytes as BlobPart]), name);
    const body = new Response(form);
    const headers = { 'content-type': body.headers.get('content-type') ?? '', [NAME_HEADER]: name };
    await cache.put(folder.href, new Response(await body.blob(), { headers }));
    // In the order in which they were put.
    const bundles = (await cache.keys()).filter(({ url }) => !url.endsWith(INDEX_QUERY));
    await Promise.all(bundles.slice(0, -MAX_KEPT).map((oldest) => cache.delete(oldest)));
  } catch {
    // Refused, as in a private window, or full.
  }
}

/** The bundle that was kept; it is verified like any other when it is opened. */
export async function lastGood(folder: URL): Promise<BundleFiles | undefined> {
  try {
    const kept = await (await caches.open(CACHE)).match(folder.href);
    if (kept === undefined) return undefined;
    const files: Record<string, Uint8Array> = {};
    for (const [name, blob] of await kept.formData()) {
      if (typeof blob !== 'string') files[name] = new Uint8Array(await blob.arrayBuffer());
    }
    return { files, digests: await digestsOf(files) };
  } catch {
    return undefined;
  }
}

/** The largest rollback index that a bundle of the folder had, on this device; 0 where none is known. */
export async function seenRollbackIndex(folder: URL): Promise<number> {
  try {
    const seen = await (await caches.open(CACHE)).match(indexAddress(folder));
    return Number((await seen?.text()) ?? 0) || 0;
  } catch {
    return 0;
  }
}

/** Remembers the rollback index of a bundle that was opened. */
export async function keepRollbackIndex(folder: URL, index: number): Promise<void> {
  try {
    // One page at a time: a smaller index must not be written behind a larger one.
    await navigator.locks.request(CACHE, async () => {
      if (index > (await seenRollbackIndex(folder))) await (await caches.open(CACHE)).put(indexAddress(folder), new Response(String(index)));
    });
  } catch {
    // As above.
  }
}

function indexAddress(folder: URL): string {
  return folder.href + INDEX_QUERY;
}

/** Forgets every kept bundle. */
export async function dropLastGood(): Promise<void> {
  try {
    // Behind whoever is writing.
    await navigator.locks.request(CACHE, () => caches.delete(CACHE));
  } catch {
    // There is nothing to forget.
  }
}
