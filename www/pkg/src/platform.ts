import type { Runtimes } from './runtime.js';
import type { DeviceStorage } from './storage.js';
import type { Fetch } from './types.js';

/** What differs between the places where the package runs; each entry file brings one. */
export interface Platform {
  /** The engines that the entry offers, at least one. */
  readonly runtimes: Runtimes;
  /** Makes an absolute URL of what a caller calls a folder. */
  resolve(folder: string | URL): URL;
  /** `fetch`, with what the platform adds or lacks. */
  readonly fetch: Fetch;
  /**
   * Where the platform has files: the bytes of one, no more than one beyond `maxBytes`, or `undefined` where there is none. To load what
   * answers `fetch` takes Node longer than to open a bundle.
   */
  readonly readFile?: (url: URL, maxBytes: number, signal: AbortSignal | undefined) => Promise<Uint8Array | undefined>;
  /** Request settings for a file that never changes under its URL. */
  readonly immutableRequest: RequestInit;
  /** Request settings for a file that may have changed. */
  readonly freshRequest: RequestInit;
  /** Request settings that keep cookies, referrers and redirects out of reports. */
  readonly reportRequest: RequestInit;
  /** Whether the last good bundle of a folder is kept in Cache Storage. */
  readonly keepsBundles: boolean;
  /** The storage that outlives the page, where there is one. */
  openStorage(name: string): DeviceStorage | undefined;
}

/** A folder's URL without file name, query and fragment. */
export function folderUrl(text: string | URL, base?: string): URL {
  const url = new URL(text, base);
  url.search = '';
  url.hash = '';
  url.pathname = url.pathname.replace(/\/?(manifest\.json)?$/, '/');
  return url;
}
