/// <reference lib="esnext.disposable" preserve="true" />
/** What hosts differ in, or state nowhere. */

/** Browsers without the symbol get a stand-in, so that a class can be declared everywhere. */
export const disposeSymbol: typeof Symbol.dispose = (Symbol.dispose ?? Symbol.for('Symbol.dispose')) as typeof Symbol.dispose;

/** Longest delay that a timer can express. */
export const MAX_TIMER_MILLIS = 2 ** 31 - 1;
