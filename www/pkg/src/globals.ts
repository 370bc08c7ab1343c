/// <reference lib="esnext.disposable" preserve="true" />
/** What hosts differ in, or state nowhere. */

/** Browsers without the symbol get a stand-in, so that a class can be declared everywhere. */
export const disposeSymbol: typeof Symbol.dispose = (Symbol.dispose ?? Symbol.for('Symbol.dispose')) as typeof Symbol.dispose;

/** Longest delay that a timer can express. */
export const MAX_TIMER_MILLIS = 2 ** 31 - 1;

/** Longest time that work without hurry waits for a page that is busy. */
const MAX_BUSY_MILLIS = 1000;

/** Resolves when a page has nothing else to do, or after a second; at once where hosts do not say when that is. */
export function idle(): Promise<void> {
  return new Promise((resolve) => {
    if (typeof requestIdleCallback === 'function') requestIdleCallback(() => resolve(), { timeout: MAX_BUSY_MILLIS });
    else resolve();
  });
}
