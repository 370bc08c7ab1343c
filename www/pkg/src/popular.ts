/** The list for the worst case, an engine that fails: what is popular, without the engine. */

import type { Engine, WireManifest, WireRecommendation, WireRequest } from './engine.js';
import { decodeVocabulary, type Vocabulary } from './vocabulary.js';

/** The vocabularies of open engines, as bytes: most pages never need one decoded. */
const vocabularies = new WeakMap<Engine, Uint8Array>();

/** Keeps the popularity list of an engine that was just opened from `files`, which it has verified; a copy where `files` are a caller's. */
export function rememberPopular(engine: Engine, files: Readonly<Record<string, Uint8Array>>, areShared: boolean): void {
  const vocabulary = files['vocabulary.bin'];
  if (vocabulary !== undefined) vocabularies.set(engine, areShared ? vocabulary.slice() : vocabulary);
}

/** The most popular items that the request's rules allow, in the engine's own order; empty when none are known. */
export function popularList(engine: Engine, manifest: WireManifest, request: WireRequest): WireRecommendation[] {
  const bytes = vocabularies.get(engine);
  if (bytes === undefined) return [];
  const vocabulary = decodeVocabulary(bytes);
  const { rules } = request;
  const limit = Math.min(request.limit, manifest.limits.max_limit);
  const cap = rules.category_cap ?? manifest.policy?.category_cap ?? Infinity;
  const excluded = new Set(rules.exclude);
  if (rules.exclude_seen ?? manifest.policy?.exclude_seen ?? true) {
    for (const { item_id: seen } of request.session) excluded.add(seen);
  }
  const only = rules.only?.length ? new Set(rules.only) : undefined;
  const matches = matcher(vocabulary, rules.filter ?? {});
  const numListed = new Map<number, number>();
  const pinned = pinsOf(rules, new Set(vocabulary.itemIds));
  for (const { itemId } of pinned) excluded.add(itemId);
  const listed: string[] = [];
  for (const [row, itemId] of vocabulary.itemIds.entries()) {
    if (listed.length >= limit) break;
    if (excluded.has(itemId) || only?.has(itemId) === false || !matches(row)) continue;
    const category = vocabulary.itemCategories[row]?.[0];
    if (category !== undefined) {
      const before = numListed.get(category) ?? 0;
      if (before >= cap) continue;
      numListed.set(category, before + 1);
    }
    listed.push(itemId);
  }
  return withPins(listed, pinned, limit).map(({ itemId: item_id, isPinned }, index) => ({
    item_id, position: index + 1, score: 0,
    source: isPinned ? 'pinned' : 'fallback', reasons: [{ kind: isPinned ? 'pinned' : 'popular' }],
  }));
}

/** Known items that are not excluded by name, each once, in the order of their places (from 0). */
function pinsOf({ pins = [], exclude = [] }: WireRequest['rules'], known: ReadonlySet<string>): { itemId: string; place: number }[] {
  const byItem = new Map<string, number>();
  for (const { item_id: itemId, position } of pins) {
    if (known.has(itemId) && !exclude.includes(itemId) && !byItem.has(itemId)) byItem.set(itemId, Math.max(position - 1, 0));
  }
  return [...byItem].map(([itemId, place]) => ({ itemId, place })).sort((a, b) => a.place - b.place);
}

/** Each pinned item at its place or as near behind it as there is room; those behind the end take the last places. */
function withPins(listed: string[], pinned: { itemId: string; place: number }[], limit: number): { itemId: string; isPinned: boolean }[] {
  const length = Math.min(limit, listed.length + pinned.length);
  const waiting = pinned.slice(0, length);
  const rest = [...listed];
  return Array.from({ length }, (_, place) => {
    const next = waiting[0];
    const isDue = next !== undefined && (next.place <= place || place + waiting.length >= length);
    return isDue ? { itemId: waiting.shift()!.itemId, isPinned: true } : { itemId: rest.shift()!, isPinned: false };
  });
}

function matcher(vocabulary: Vocabulary, filter: NonNullable<WireRequest['rules']['filter']>): (row: number) => boolean {
  const { categories = [], min_price: min = -Infinity, max_price: max = Infinity } = filter;
  const hasPriceBound = filter.min_price !== undefined || filter.max_price !== undefined;
  return (row) => {
    const names = (vocabulary.itemCategories[row] ?? []).map((category) => vocabulary.categories[category] ?? '');
    if (categories.length > 0 && !names.some((name) => categories.includes(name))) return false;
    const price = vocabulary.prices[row] ?? null;
    return !hasPriceBound || (price !== null && price >= min && price <= max);
  };
}
