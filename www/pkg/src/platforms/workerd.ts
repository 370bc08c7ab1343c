import { folderUrl, type Platform } from '../platform.js';
import type { Runtimes } from '../runtime.js';

/**
 * workerd, where wasm cannot be compiled at run time: an engine is imported as a compiled module, which the worker's
 * bundler recognises.
 */
export function workerd(runtimes: Runtimes): Platform {
  return {
    runtimes,
    resolve: (folder) => folderUrl(folder),
    fetch: (url, init) => fetch(url, init),
    immutableRequest: {},
    freshRequest: {},
    reportRequest: { redirect: 'manual' },
    keepsBundles: false,
    openStorage: () => undefined,
  };
}
