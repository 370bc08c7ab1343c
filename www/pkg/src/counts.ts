import type { WireTelemetryState, WireWindow } from './engine.js';

/** Adds the counts of `other` (`sign` 1) to a state of the same bundle, or takes them away (`sign` -1). */
export function combineStates(base: WireTelemetryState, other: WireTelemetryState, sign: 1 | -1): WireTelemetryState {
  return { ...base, current: combineWindows(base.current, other.current, sign) };
}

/** Whether anything was counted. */
export function hasCounts({ current }: WireTelemetryState): boolean {
  return current.num_lists > 0 || current.fields.some(({ counts }) => counts.some((count) => count > 0));
}

/** Whether two states of one bundle counted the same. */
export function sameCounts(left: WireTelemetryState, right: WireTelemetryState): boolean {
  return JSON.stringify(left.current) === JSON.stringify(right.current);
}

function combineWindows(base: WireWindow, other: WireWindow, sign: 1 | -1): WireWindow {
  const add = (left: number, right = 0): number => Math.max(0, left + sign * right);
  const counted = new Map(other.fields.map(({ name, counts }) => [name, counts]));
  return {
    window_start: base.window_start ?? other.window_start ?? null,
    num_lists: add(base.num_lists, other.num_lists),
    fields: base.fields.map(({ name, counts }) => ({
      name,
      counts: counts.map((count, bin) => add(count, counted.get(name)?.[bin])),
    })),
  };
}
