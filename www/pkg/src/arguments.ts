/**
 * Checks of arguments. A wrong type is the caller's mistake and throws `invalid_argument`; a
 * number that makes no sense is brought into range, so that data can never stop a page.
 */

import { interactionFromWire, interactionToWire, rulesToWire } from './boundary.js';
import type { WireInteraction, WireRequest, WireRules } from './engine.js';
import { RecommenderError, toRecommenderError } from './errors.js';
import type { Boost, Consent, Fault, Filter, ObserveOptions, Pin, RecommendOptions, Rules } from './types.js';

/** Longest accepted item id, in UTF-16 units. */
export const MAX_ITEM_ID_LENGTH = 512;
/** Longest accepted interaction kind, in UTF-16 units. */
export const MAX_KIND_LENGTH = 64;

const DEFAULT_LIMIT = 10;
/** In the year 5138; milliseconds are larger since 1973. */
const MAX_SECONDS = 1e11;
const MAX_U32 = 0xffff_ffff;

/** The device's clock in Unix seconds. */
export function clockSeconds(): number {
  return Math.floor(Date.now() / 1000);
}

/**
 * Checks the options of `recommend`; `sessionAt` gives the session of a request that carries none. Interactions
 * whose id or kind no bundle can know are left out, and named by a fault.
 */
export function checkRequest(
  options: RecommendOptions, sessionAt: (now: number) => WireInteraction[],
): { request: WireRequest; faults: Fault[] } {
  return guarded('the options of recommend', () => {
    const from = record(options, 'options');
    const now = timeOf(from['now'], 'now');
    const given = from['session'] === undefined ? undefined : list(from['session'], 'session');
    const kept = given?.flatMap(checkSessionEntry) ?? [...sessionAt(now)];
    const numDropped = given === undefined ? 0 : given.length - kept.length;
    const detail = `${numDropped} of ${given?.length ?? 0} session items have an id or kind that is empty or too long`;
    const rules = checkRules(from['rules']);
    if (from['near'] !== undefined) {
      const near = boundedText(from['near'], 'near', MAX_ITEM_ID_LENGTH);
      kept.push({ item_id: near, kind: 'view', timestamp: now });
      rules.exclude = [...(rules.exclude ?? []), near];
    }
    const deadline = from['deadlineMs'];
    if (deadline !== undefined && typeof deadline !== 'number') throw wrongType('deadlineMs', 'a number', deadline);
    const request = {
      session: kept,
      context: checkContext(from['context']),
      rules,
      limit: checkLimit(from['limit']),
      now,
      seed: count(from['seed'], 'seed', Number.MAX_SAFE_INTEGER) ?? Math.abs(now),
      // No deadline is as good as an endless one.
      ...(deadline === undefined || Number.isNaN(deadline) || deadline === Infinity ? {} : { deadline_ms: Math.max(deadline, 0) }),
    };
    return { request, faults: numDropped === 0 ? [] : [{ code: 'unknown_items', detail }] };
  });
}

/** Checks one observed interaction. */
export function checkInteraction(options: ObserveOptions): WireInteraction {
  return guarded('the options of observe', () => {
    const from = record(options, 'options');
    return interactionToWire({
      itemId: boundedText(from['itemId'], 'itemId', MAX_ITEM_ID_LENGTH),
      kind: boundedText(from['kind'], 'kind', MAX_KIND_LENGTH),
      timestamp: secondsOf(timeOf(from['timestamp'], 'timestamp')),
    });
  });
}

/** What is remembered is used for a long time, and milliseconds in it would end every session. */
function secondsOf(timestamp: number): number {
  if (timestamp <= MAX_SECONDS) return timestamp;
  throw new RecommenderError('invalid_argument', 'timestamp is out of range', { expected: 'Unix seconds', found: String(timestamp), hint: 'divide milliseconds by 1000' });
}

/** How many items are wanted. */
export function checkLimit(value: unknown): number {
  return count(value, 'limit', MAX_U32) ?? DEFAULT_LIMIT;
}

/** After how long a pause a new session begins. */
export function checkIdleSeconds(value: unknown): number {
  if (typeof value !== 'number') throw wrongType('sessionIdleSeconds', 'a number', value);
  if (value > 0) return value;
  throw new RecommenderError('invalid_argument', 'sessionIdleSeconds is out of range', {
    expected: 'a number above 0, or Infinity',
    found: String(value),
  });
}

/** The least rollback index of a bundle. */
export function checkRollbackIndex(value: unknown): number {
  if (Number.isSafeInteger(value) && (value as number) >= 0) return value as number;
  throw wrongType('minRollbackIndex', 'a whole number from 0', value);
}

/** Unix seconds; the clock where nothing usable is given. */
export function timeOf(value: unknown, name: string): number {
  if (value === undefined) return clockSeconds();
  if (typeof value !== 'number') throw wrongType(name, 'a number of Unix seconds', value);
  if (!Number.isFinite(value)) return clockSeconds();
  return clamp(Math.trunc(value), Number.MIN_SAFE_INTEGER, Number.MAX_SAFE_INTEGER);
}

/** A position of `recordOutcome`. */
export function checkPosition(value: unknown): number | undefined {
  const position = count(value, 'position', MAX_U32);
  return position === 0 ? undefined : position;
}

/** One of the consent levels. */
export function checkConsent(value: unknown): Consent {
  if (value === 'none' || value === 'device' || value === 'share') return value;
  throw wrongType('consent', '"none", "device" or "share"', value);
}

/** Text that is neither empty nor longer than `max`. */
export function boundedText(value: unknown, name: string, max: number): string {
  const checked = text(value, name);
  if (isBounded(checked, max)) return checked;
  throw new RecommenderError('invalid_argument', `${name} has a length out of range`, {
    expected: `1 to ${max} characters`,
    found: `${checked.length} characters`,
  });
}

export function text(value: unknown, name: string): string {
  if (typeof value !== 'string') throw wrongType(name, 'a string', value);
  return value;
}

function isBounded({ length }: string, max: number): boolean {
  return length > 0 && length <= max;
}

/** How many interactions are remembered: a whole number, 0 for none. */
export function checkSessionLength(value: unknown): number {
  if (typeof value !== 'number') throw wrongType('maxSessionLength', 'a number', value);
  if (Number.isSafeInteger(value) && value >= 0) return value;
  throw new RecommenderError('invalid_argument', 'maxSessionLength is out of range', {
    expected: 'a whole number of at least 0',
    found: String(value),
  });
}

/** The error for an argument of another type. */
export function wrongType(name: string, expected: string, found: unknown): RecommenderError {
  return new RecommenderError('invalid_argument', `${name} has the wrong type`, { expected, found: describe(found) });
}

/** True or false. */
export function checkFlag(value: unknown, name: string): boolean {
  if (typeof value !== 'boolean') throw wrongType(name, 'a boolean', value);
  return value;
}

/** Any object but an array. */
export function record(value: unknown, name: string): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw wrongType(name, 'an object', value);
  return value as Record<string, unknown>;
}

/** Any array. */
export function list(value: unknown, name: string): unknown[] {
  if (!Array.isArray(value)) throw wrongType(name, 'an array', value);
  return value;
}

/** What an object's own code throws, such as a getter, is the caller's mistake too. */
function guarded<T>(what: string, check: () => T): T {
  try {
    return check();
  } catch (thrown) {
    throw toRecommenderError(thrown, 'invalid_argument', `${what} cannot be read`);
  }
}

/** One interaction of a given session, or none for an id or kind of an impossible length. */
function checkSessionEntry(value: unknown, index: number): WireInteraction[] {
  const name = `session[${index}]`;
  const from = record(value, name);
  const itemId = text(from['itemId'], `${name}.itemId`);
  const kind = text(from['kind'], `${name}.kind`);
  const timestamp = timeOf(from['timestamp'], `${name}.timestamp`);
  const possible = isBounded(itemId, MAX_ITEM_ID_LENGTH) && isBounded(kind, MAX_KIND_LENGTH);
  return possible ? [interactionToWire({ itemId, kind, timestamp })] : [];
}

function checkContext(value: unknown): Record<string, string> {
  if (value === undefined) return {};
  const entries = Object.entries(record(value, 'context'));
  for (const [key, entry] of entries) {
    if (typeof entry !== 'string') throw wrongType(`context.${key}`, 'a string', entry);
  }
  return Object.fromEntries(entries) as Record<string, string>;
}

function checkRules(value: unknown): WireRules {
  if (value === undefined) return {};
  const from = record(value, 'rules');
  const rules: Rules = {};
  if (from['exclude'] !== undefined) rules.exclude = texts(from['exclude'], 'rules.exclude');
  if (from['only'] !== undefined) rules.only = texts(from['only'], 'rules.only');
  if (from['excludeSeen'] !== undefined) {
    rules.excludeSeen = checkFlag(from['excludeSeen'], 'rules.excludeSeen');
  }
  const cap = count(from['categoryCap'], 'rules.categoryCap', MAX_U32);
  if (cap !== undefined) rules.categoryCap = cap;
  for (const name of ['diversity', 'exploration'] as const) {
    const share = from[name];
    if (share === undefined) continue;
    if (typeof share !== 'number') throw wrongType(`rules.${name}`, 'a number', share);
    if (!Number.isNaN(share)) rules[name] = clamp(share, 0, 1);
  }
  if (from['pins'] !== undefined) rules.pins = list(from['pins'], 'rules.pins').map(checkPin);
  if (from['boosts'] !== undefined) rules.boosts = list(from['boosts'], 'rules.boosts').map(checkBoost);
  if (from['filter'] !== undefined) rules.filter = checkFilter(from['filter']);
  return rulesToWire(rules);
}

function checkPin(value: unknown, index: number): Pin {
  const name = `rules.pins[${index}]`;
  const from = record(value, name);
  if (typeof from['itemId'] !== 'string') throw wrongType(`${name}.itemId`, 'a string', from['itemId']);
  const position = count(from['position'], `${name}.position`, MAX_U32);
  if (from['position'] === undefined) throw wrongType(`${name}.position`, 'a number', undefined);
  return { itemId: from['itemId'], position: position ?? 1 };
}

function checkBoost(value: unknown, index: number): Boost {
  const name = `rules.boosts[${index}]`;
  const from = record(value, name);
  if (typeof from['add'] !== 'number') throw wrongType(`${name}.add`, 'a number', from['add']);
  // JSON has no number that is not finite.
  const boost: Boost = { add: Number.isNaN(from['add']) ? 0 : clamp(from['add'], -Number.MAX_VALUE, Number.MAX_VALUE) };
  if (from['itemIds'] !== undefined) boost.itemIds = texts(from['itemIds'], `${name}.itemIds`);
  if (from['categories'] !== undefined) boost.categories = texts(from['categories'], `${name}.categories`);
  return boost;
}

function checkFilter(value: unknown): Filter {
  const from = record(value, 'rules.filter');
  const filter: Filter = {};
  if (from['categories'] !== undefined) filter.categories = texts(from['categories'], 'rules.filter.categories');
  for (const name of ['minPrice', 'maxPrice'] as const) {
    const price = from[name];
    if (price === undefined) continue;
    if (typeof price !== 'number') throw wrongType(`rules.filter.${name}`, 'a number', price);
    if (!Number.isNaN(price)) filter[name] = price;
  }
  return filter;
}

function texts(value: unknown, name: string): string[] {
  return list(value, name).map((entry, index) => {
    if (typeof entry !== 'string') throw wrongType(`${name}[${index}]`, 'a string', entry);
    return entry;
  });
}

/** A whole number from 0 to `max`, or `undefined` for none and for NaN. */
function count(value: unknown, name: string, max: number): number | undefined {
  if (value === undefined) return undefined;
  if (typeof value !== 'number') throw wrongType(name, 'a number', value);
  return Number.isNaN(value) ? undefined : clamp(Math.floor(value), 0, max);
}

function clamp(value: number, min: number, max: number): number {
  return Math.min(Math.max(value, min), max);
}

function describe(value: unknown): string {
  if (value === null) return 'null';
  if (Array.isArray(value)) return 'an array';
  return typeof value === 'string' ? `the string ${JSON.stringify(value.slice(0, 40))}` : typeof value;
}

/** Interactions that were read back from storage; whatever is not one is left out. */
export function readStoredSession(value: unknown): WireInteraction[] {
  if (!Array.isArray(value)) return [];
  return value.flatMap((entry: unknown) => {
    try {
      return [checkInteraction(interactionFromWire(record(entry, 'interaction') as unknown as WireInteraction))];
    } catch {
      return [];
    }
  });
}
