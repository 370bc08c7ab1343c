/** The only place where camelCase meets the wasm boundary's snake_case. */

import { filesForDevices } from './bundle.js';
import type { WireManifest, WireInteraction, WireReason, WireRecommendation, WireResponse, WireRules } from './engine.js';
import type {
  BundleInfo,
  Fault,
  Reason,
  Recommendation,
  RecommendResponse,
  Rules,
  SessionInteraction,
  Source,
} from './types.js';

export function interactionToWire({ itemId, kind, timestamp }: SessionInteraction): WireInteraction {
  return { item_id: itemId, kind, timestamp };
}

export function interactionFromWire({ item_id, kind, timestamp }: WireInteraction): SessionInteraction {
  return { itemId: item_id, kind, timestamp };
}

export function rulesToWire(rules: Rules): WireRules {
  const wire: WireRules = {};
  if (rules.exclude !== undefined) wire.exclude = [...rules.exclude];
  if (rules.only !== undefined) wire.only = [...rules.only];
  if (rules.excludeSeen !== undefined) wire.exclude_seen = rules.excludeSeen;
  if (rules.categoryCap !== undefined) wire.category_cap = rules.categoryCap;
  if (rules.diversity !== undefined) wire.diversity = rules.diversity;
  if (rules.exploration !== undefined) wire.exploration = rules.exploration;
  if (rules.pins !== undefined) wire.pins = rules.pins.map(({ itemId, position }) => ({ item_id: itemId, position }));
  if (rules.boosts !== undefined) {
    wire.boosts = rules.boosts.map(({ itemIds, categories, add }) => ({
      add, ...(itemIds === undefined ? {} : { item_ids: [...itemIds] }), ...(categories === undefined ? {} : { categories: [...categories] }),
    }));
  }
  if (rules.filter !== undefined) {
    const { categories, minPrice, maxPrice } = rules.filter;
    wire.filter = {};
    if (categories !== undefined) wire.filter.categories = [...categories];
    if (minPrice !== undefined) wire.filter.min_price = minPrice;
    if (maxPrice !== undefined) wire.filter.max_price = maxPrice;
  }
  return wire;
}

export function recommendationFromWire(wire: WireRecommendation): Recommendation {
  return {
    itemId: wire.item_id,
    position: wire.position,
    score: wire.score,
    source: wire.source as Source,
    reasons: wire.reasons.flatMap(reasonFromWire),
    ...(wire.propensity === undefined ? {} : { propensity: wire.propensity }),
  };
}

/** A reason of a kind that this release does not know is left out rather than shown half. */
function reasonFromWire(wire: WireReason): Reason[] {
  switch (wire.kind) {
    case 'similar_to':
      return [{ kind: 'similar_to', itemId: wire.item_id ?? '', similarity: wire.similarity ?? 0 }];
    case 'chosen_with':
      return [{ kind: 'chosen_with', itemId: wire.item_id ?? '', weight: wire.weight ?? 0 }];
    case 'category':
      return [{ kind: 'category', category: wire.category ?? '' }];
    case 'popular':
    case 'pinned':
      return [{ kind: wire.kind }];
    default:
      return [];
  }
}

export function responseFromWire(wire: WireResponse): RecommendResponse {
  return { recommendations: wire.recommendations.map(recommendationFromWire), faults: wire.faults as Fault[] };
}

export function recommendationToWire(recommendation: Recommendation): WireRecommendation {
  const { itemId, position, score, source, reasons, propensity } = recommendation;
  return {
    item_id: itemId, position, score, source, reasons: reasons.map(reasonToWire), ...(propensity === undefined ? {} : { propensity }),
  };
}

function reasonToWire(reason: Reason): WireReason {
  switch (reason.kind) {
    case 'similar_to':
      return { kind: reason.kind, item_id: reason.itemId, similarity: reason.similarity };
    case 'chosen_with':
      return { kind: reason.kind, item_id: reason.itemId, weight: reason.weight };
    default:
      return reason;
  }
}

export function bundleInfoFromWire(manifest: WireManifest, hash: string): Omit<BundleInfo, 'isLastGood'> {
  const { limits, telemetry, shapes } = manifest;
  return {
    hash,
    name: manifest.name,
    version: manifest.version,
    recommender: manifest.recommender,
    numItems: shapes.num_items,
    bytes: filesForDevices(manifest.files).reduce((sum, file) => sum + file.bytes, 0),
    limits: {
      maxCandidates: limits.max_candidates,
      maxLimit: limits.max_limit,
      maxSessionLen: limits.max_session_len,
    },
    telemetry: {
      epsilon: telemetry.epsilon,
      fieldsPerReport: telemetry.fields_per_report,
      reportBytes: telemetry.report_bytes,
      windowSeconds: telemetry.window_seconds,
    },
  };
}
