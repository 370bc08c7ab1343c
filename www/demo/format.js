const price = new Intl.NumberFormat('en', { style: 'currency', currency: 'USD' });
const number = new Intl.NumberFormat('en');
const clock = new Intl.DateTimeFormat('en', { hour: '2-digit', minute: '2-digit', hour12: false });
const date = new Intl.DateTimeFormat('en', { dateStyle: 'medium', timeZone: 'UTC' });

/** A price, or an empty text for none. */
export const formatPrice = (value) => (value === null || value === undefined ? '' : price.format(value));
export const formatNumber = (value) => number.format(value);
/** Time of day of Unix seconds. */
export const formatTime = (seconds) => clock.format(seconds * 1000);
/** UTC date of Unix seconds. */
export const formatDate = (seconds) => date.format(seconds * 1000);

export function formatMillis(millis) {
  if (millis < 10) return `${millis.toFixed(2)} ms`;
  return `${Math.round(millis)} ms`;
}

export function formatBytes(bytes) {
  if (bytes < 1024) return `${bytes} B`;
  return bytes < 1024 * 1024 ? `${Math.round(bytes / 1024)} KB` : `${(bytes / 1024 / 1024).toFixed(1)} MB`;
}

/** `category_affinity` and `feature.category_affinity` as words. */
export function formatName(name) {
  const words = name.split('.').at(-1).replaceAll('_', ' ');
  return words.charAt(0).toUpperCase() + words.slice(1);
}

/** The middle value; the lower one of two. */
export function median(values) {
  return values.toSorted((left, right) => left - right)[Math.floor((values.length - 1) / 2)] ?? 0;
}
