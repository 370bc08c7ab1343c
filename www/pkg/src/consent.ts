import type { Consent, PrivacySignal } from './types.js';

/** The browser's own word on privacy; Global Privacy Control before Do Not Track. */
export function privacySignal(): PrivacySignal | null {
  const navigator = (globalThis as { navigator?: { globalPrivacyControl?: unknown; doNotTrack?: unknown } }).navigator;
  if (navigator?.globalPrivacyControl === true) return 'gpc';
  return navigator?.doNotTrack === '1' ? 'dnt' : null;
}

/** The consent of a user who was not asked: who sends a privacy signal has said no. */
export function defaultConsent(): Consent {
  return privacySignal() === null ? 'device' : 'none';
}

/** The consent in force: a privacy signal leaves nothing above `device`. */
export function effectiveConsent(given: Consent): Consent {
  return given === 'share' && privacySignal() !== null ? 'device' : given;
}
