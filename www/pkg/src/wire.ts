/**
 * The entry `sanderling/wire`, for hosts that answer requests. The JSON of `POST /recommend`: the same snake_case request and response that every HTTP host of
 * the engine speaks. Unlike the options of `recommend`, a request from the network is read
 * strictly: unknown keys and numbers out of range are refused.
 */

import { checkFlag, list, record, wrongType } from './arguments.js';
import { recommendationToWire } from './boundary.js';
import { RecommenderError } from './errors.js';
import type { Boost, Correction, Filter, Pin, RecommendOptions, RecommendResponse, Rules, SessionInteraction } from './types.js';

/** Reads a request body that `JSON.parse` gave; throws `invalid_argument`. */
export function decodeRequest(body: unknown): RecommendOptions {
  const from = strict(body, 'request', ['session', 'context', 'rules', 'limit', 'now', 'seed', 'deadline_ms', 'correction']);
  const options: RecommendOptions = {};
  options.session = optional(from['session'], (value) => list(value, 'session').map(decodeInteraction)) ?? [];
  const context = optional(from['context'], decodeContext);
  if (context !== undefined) options.context = context;
  const rules = optional(from['rules'], decodeRules);
  if (rules !== undefined) options.rules = rules;
  for (const [name, min] of [['limit', 0], ['now', Number.MIN_SAFE_INTEGER], ['seed', 0]] as const) {
    const value = optional(from[name], (number) => wholeNumber(number, name, min));
    if (value !== undefined) options[name] = value;
  }
  const deadlineMs = optional(from['deadline_ms'], (number) => finite(number, 'deadline_ms'));
  if (deadlineMs !== undefined) options.deadlineMs = deadlineMs;
  // What cannot be used changes nothing, so it is looked at where it is.
  const correction = optional(from['correction'], (value) => record(value, 'correction'));
  if (correction !== undefined) options.correction = correction as unknown as Correction;
  return options;
}

/** The response body for a {@link RecommendResponse}. */
export function encodeResponse(response: RecommendResponse): Record<string, unknown> {
  return { recommendations: response.recommendations.map(recommendationToWire), faults: response.faults };
}

function decodeInteraction(value: unknown, index: number): SessionInteraction {
  const name = `session[${index}]`;
  const from = strict(value, name, ['item_id', 'kind', 'timestamp']);
  return {
    itemId: text(from['item_id'], `${name}.item_id`),
    kind: text(from['kind'], `${name}.kind`),
    timestamp: wholeNumber(from['timestamp'], `${name}.timestamp`, Number.MIN_SAFE_INTEGER),
  };
}

function decodeContext(value: unknown): Record<string, string> {
  const entries = Object.entries(record(value, 'context'));
  return Object.fromEntries(entries.map(([key, entry]) => [key, text(entry, `context.${key}`)]));
}

function decodeRules(value: unknown): Rules {
  const from = strict(value, 'rules', ['exclude', 'only', 'exclude_seen', 'filter', 'category_cap', 'boosts', 'diversity', 'pins', 'exploration']);
  const rules: Rules = {};
  const exclude = optional(from['exclude'], (ids) => texts(ids, 'rules.exclude'));
  if (exclude !== undefined) rules.exclude = exclude;
  const only = optional(from['only'], (ids) => texts(ids, 'rules.only'));
  if (only !== undefined) rules.only = only;
  const seen = optional(from['exclude_seen'], (flag) => checkFlag(flag, 'rules.exclude_seen'));
  if (seen !== undefined) rules.excludeSeen = seen;
  const cap = optional(from['category_cap'], (number) => wholeNumber(number, 'rules.category_cap', 0));
  if (cap !== undefined) rules.categoryCap = cap;
  const diversity = optional(from['diversity'], (number) => finite(number, 'rules.diversity'));
  if (diversity !== undefined) rules.diversity = diversity;
  const exploration = optional(from['exploration'], (number) => finite(number, 'rules.exploration'));
  if (exploration !== undefined) rules.exploration = exploration;
  const pins = optional(from['pins'], (entries) => list(entries, 'rules.pins').map(decodePin));
  if (pins !== undefined) rules.pins = pins;
  const boosts = optional(from['boosts'], (entries) => list(entries, 'rules.boosts').map(decodeBoost));
  if (boosts !== undefined) rules.boosts = boosts;
  const filter = optional(from['filter'], decodeFilter);
  if (filter !== undefined) rules.filter = filter;
  return rules;
}

function decodePin(value: unknown, index: number): Pin {
  const name = `rules.pins[${index}]`;
  const from = strict(value, name, ['item_id', 'position']);
  return { itemId: text(from['item_id'], `${name}.item_id`), position: wholeNumber(from['position'], `${name}.position`, 0) };
}

function decodeBoost(value: unknown, index: number): Boost {
  const name = `rules.boosts[${index}]`;
  const from = strict(value, name, ['item_ids', 'categories', 'add']);
  const boost: Boost = { add: optional(from['add'], (number) => finite(number, `${name}.add`)) ?? 0 };
  const itemIds = optional(from['item_ids'], (ids) => texts(ids, `${name}.item_ids`));
  if (itemIds !== undefined) boost.itemIds = itemIds;
  const categories = optional(from['categories'], (names) => texts(names, `${name}.categories`));
  if (categories !== undefined) boost.categories = categories;
  return boost;
}

function finite(value: unknown, name: string): number {
  if (typeof value !== 'number' || !Number.isFinite(value)) throw wrongType(name, 'a finite number', value);
  return value;
}

function decodeFilter(value: unknown): Filter {
  const from = strict(value, 'rules.filter', ['categories', 'min_price', 'max_price']);
  const filter: Filter = {};
  const categories = optional(from['categories'], (names) => texts(names, 'rules.filter.categories'));
  if (categories !== undefined) filter.categories = categories;
  const minPrice = optional(from['min_price'], (price) => number(price, 'rules.filter.min_price'));
  if (minPrice !== undefined) filter.minPrice = minPrice;
  const maxPrice = optional(from['max_price'], (price) => number(price, 'rules.filter.max_price'));
  if (maxPrice !== undefined) filter.maxPrice = maxPrice;
  return filter;
}

/** JSON has `null` where an option is not stated. */
function optional<T>(value: unknown, decode: (value: unknown) => T): T | undefined {
  return value === undefined || value === null ? undefined : decode(value);
}

function strict(value: unknown, name: string, keys: readonly string[]): Record<string, unknown> {
  const from = record(value, name);
  const unknown = Object.keys(from).find((key) => !keys.includes(key));
  if (unknown !== undefined) {
    throw new RecommenderError('invalid_argument', `${name} has an unknown key`, {
      expected: keys.join(', '),
      found: unknown.slice(0, 40),
    });
  }
  return from;
}

function text(value: unknown, name: string): string {
  if (typeof value !== 'string') throw wrongType(name, 'a string', value);
  return value;
}

function texts(value: unknown, name: string): string[] {
  return list(value, name).map((entry, index) => text(entry, `${name}[${index}]`));
}

function number(value: unknown, name: string): number {
  if (typeof value !== 'number') throw wrongType(name, 'a number', value);
  return value;
}

function wholeNumber(value: unknown, name: string, min: number): number {
  const whole = number(value, name);
  if (!Number.isSafeInteger(whole) || whole < min) {
    throw new RecommenderError('invalid_argument', `${name} is out of range`, {
      expected: min === 0 ? 'a whole number of at least 0' : 'a whole number',
      found: String(whole),
    });
  }
  return whole;
}
