import { IndexedDbStorage } from '../indexed-db.js';
import { folderUrl, type Platform } from '../platform.js';
import type { Runtimes } from '../runtime.js';

/** Browsers, workers and bundlers. */
export function browser(runtimes: Runtimes): Platform {
  return {
    runtimes,
    resolve: (folder) => folderUrl(folder, globalThis.document?.baseURI ?? globalThis.location?.href),
    fetch: (url, init) => fetch(url, init),
    immutableRequest: { cache: 'force-cache', credentials: 'same-origin' },
    freshRequest: { cache: 'no-cache', credentials: 'same-origin' },
    reportRequest: {
      mode: 'cors', credentials: 'omit', cache: 'no-store', redirect: 'error', referrerPolicy: 'no-referrer', keepalive: true,
    },
    get keepsBundles() {
      try {
        return globalThis.caches !== undefined;
      } catch {
        // A sandboxed frame may not even ask.
        return false;
      }
    },
    openStorage: (name) => (globalThis.indexedDB === undefined ? undefined : new IndexedDbStorage(name)),
  };
}
