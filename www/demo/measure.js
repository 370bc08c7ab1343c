/** Calls that are not counted, while the engine's code is still being compiled. */
export const NUM_WARM_UP_CALLS = 60;
const NUM_SESSION_ITEMS = 20;
const NOW = 1_700_000_000;

/**
 * Times `numCalls` calls of `recommend`, each with another session, in milliseconds. Runs wherever
 * the package runs.
 */
export async function measure(recommender, itemIds, numCalls) {
  const millis = [];
  for (let call = 0; call < NUM_WARM_UP_CALLS + numCalls; call += 1) {
    const session = sessionOf(itemIds, call);
    const before = performance.now();
    recommender.recommend({ session, limit: 10, now: NOW });
    const after = performance.now();
    if (call >= NUM_WARM_UP_CALLS) millis.push(after - before);
    // Lets the page breathe, and the engine's optimised code arrive.
    if (call % 20 === 0) await new Promise((resolve) => setTimeout(resolve));
  }
  millis.sort((left, right) => left - right);
  return {
    num_calls: millis.length,
    session_len: NUM_SESSION_ITEMS,
    p50_millis: round(quantile(millis, 0.5)),
    p95_millis: round(quantile(millis, 0.95)),
    max_millis: round(millis.at(-1)),
  };
}

/** A thousandth of a millisecond is as fine as clocks get. */
export function round(millis) {
  return Math.round(millis * 1000) / 1000;
}

/** A different session for every call, spread over the whole catalogue. */
function sessionOf(ids, call) {
  return Array.from({ length: NUM_SESSION_ITEMS }, (_, step) => ({
    itemId: ids[(call * 7919 + step * 104_729) % ids.length],
    kind: 'view',
    timestamp: NOW - (NUM_SESSION_ITEMS - step) * 60,
  }));
}

/** Linear interpolation between the nearest ranks of sorted values. */
function quantile(sorted, share) {
  const place = (sorted.length - 1) * share;
  const below = sorted[Math.floor(place)];
  return below + (sorted[Math.ceil(place)] - below) * (place - Math.floor(place));
}
