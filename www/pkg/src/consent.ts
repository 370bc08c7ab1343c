import type { Consent, PrivacySignal } from './types.js';

/** The browser's own word on privacy; Global Privacy Control before Do Not Track. */
export function privacySignal(): PrivacySignal | null {
  const navigator = (globalThis as { navigator?: { globalPrivacyControl?: unknown; doNotTrack?: unknown } }).navigator;
  if (navigator?.globalPrivacyControl === true) return 'gpc';
  return navigator?.doNotTrack === '1' ? 'dnt' : null;
}

/** The consent in force: a privacy signal leaves nothing above `device`. */
export function effectiveConsent(given: Consent): Consent {
  return given === 'share' && privacySignal() !== null ? 'device' : given;
}
