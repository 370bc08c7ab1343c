const number = new Intl.NumberFormat('en');
const date = new Intl.DateTimeFormat('en', { day: 'numeric', month: 'short', year: 'numeric', timeZone: 'UTC' });
const time = new Intl.DateTimeFormat('en', { dateStyle: 'medium', timeStyle: 'short', timeZone: 'UTC' });
const DAY = 86400;

/** A count; one that the collector keeps to itself is under `least`. */
export const formatCount = (count, least) => (count === null ? `under ${number.format(least)}` : number.format(count));

/** UTC date of Unix seconds, with the time of day where windows are shorter than a day. */
export const formatWindow = (seconds) => (seconds % DAY === 0 ? date : time).format(seconds * 1000);

export const formatTime = (seconds) => time.format(seconds * 1000);

/** A number of a statistic, with what matters of it. */
export function formatNumber(value) {
  if (value === null || value === undefined) return '–';
  if (value !== 0 && Math.abs(value) < 0.0001) return value.toExponential(1);
  return value.toFixed(Math.abs(value) < 10 ? 4 : 1);
}

export const formatShare = (value) => `${(100 * value).toFixed(1)} %`;

/** What a field was found to be. */
export function formatVerdict({ drifted, shifted, skipped }) {
  if (skipped !== null) return SKIPPED[skipped] ?? skipped;
  if (drifted) return 'DRIFT';
  return shifted ? 'shift' : 'calm';
}

const SKIPPED = {
  too_few_answers: 'too few answers',
  no_reference: 'nothing to compare with',
  too_few_reference_answers: 'too few answers before',
};

/** Names of a field's bins. */
export function binLabels({ bins }) {
  if (bins.labels !== undefined) return bins.labels;
  const edges = bins.edges.map((edge) => String(Number(edge.toPrecision(3))));
  if (edges.length === 0) return ['all'];
  const between = edges.slice(1).map((edge, at) => `${edges[at]} to ${edge}`);
  return [`under ${edges[0]}`, ...between, `${edges.at(-1)} and over`];
}
