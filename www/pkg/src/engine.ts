/**
 * The wasm boundary in its own snake_case terms. Everything else in this package speaks
 * camelCase; `boundary.ts` is the only place that converts.
 */
import type { TelemetryFieldName } from './telemetry-fields.js';

/** A value that survives `JSON.stringify`. */
export type Json = null | boolean | number | string | Json[] | { [key: string]: Json };

export interface WireInteraction {
  item_id: string;
  kind: string;
  timestamp: number;
}

export interface WireRules {
  exclude?: string[];
  only?: string[];
  exclude_seen?: boolean;
  filter?: { categories?: string[]; min_price?: number; max_price?: number };
  category_cap?: number;
  boosts?: { item_ids?: string[]; categories?: string[]; add: number }[];
  diversity?: number;
  pins?: { item_id: string; position: number }[];
  exploration?: number;
}

export interface WireRequest {
  session: WireInteraction[];
  context: Record<string, string>;
  rules: WireRules;
  limit: number;
  now: number;
  seed: number;
  deadline_ms?: number;
  correction?: WireCorrection;
}

/** What was learned of a user, see `docs/formats/correction.md`. */
export interface WireCorrection {
  format_version: number;
  feature_spec_sha256: string;
  num_updates: number;
  sums: number[];
}

export interface WireReason {
  kind: string;
  item_id?: string;
  similarity?: number;
  weight?: number;
  category?: string;
}

export interface WireRecommendation {
  item_id: string;
  position: number;
  score: number;
  source: string;
  reasons: WireReason[];
  propensity?: number;
}

export interface WireResponse {
  recommendations: WireRecommendation[];
  faults: { code: string; detail: string }[];
}

export interface WireManifest {
  format_version: number;
  feature_spec_sha256: string;
  name: string;
  version: number;
  expires_at?: number;
  rollback_index?: number;
  recommender: string;
  files: Record<string, { path: string; bytes: number; pieces_sha256?: string; sha256: string }>;
  limits: { max_candidates: number; max_limit: number; max_session_len: number };
  policy?: { category_cap?: number | null; exclude_seen?: boolean };
  shapes: { dim: number; num_features: number; num_items: number };
  training?: { split?: string };
  telemetry: { epsilon: number; fields_per_report: number; report_bytes: number; window_seconds: number };
}

/** The counts of one window, in the order of the bundle's baseline. */
export interface WireWindow {
  /** Unix seconds; absent until the first list. */
  window_start?: number | null;
  /** Lists that were made from a session. */
  num_lists: number;
  fields: { name: TelemetryFieldName; counts: number[] }[];
}

export interface WireTelemetryState {
  format_version: number;
  bundle_sha256: string;
  current: WireWindow;
  closed?: WireWindow | null;
}

/**
 * One loaded bundle inside the wasm instance. Applications use `Recommender`; conformance runners
 * and hosts that multiplex many users over one engine use this.
 */
export interface Engine {
  manifest(): WireManifest;
  /** Resolves when no attempt to start an engine that failed again is under way; absent where none is made. */
  settled?(): Promise<void>;
  /** Whether it runs, is being started again, waits for the next call to be, or is not started any more. */
  readonly state?: 'running' | 'starting' | 'stopped' | 'over';
  bundleHash(): string;
  hasItem(itemId: string): boolean;
  len(): number;
  recommend(request: WireRequest): WireResponse;
  /** Rows of items, for {@link Engine.retrieve}; throws `unknown_item`. */
  rows(itemIds: readonly string[]): Uint32Array;
  /** The id of a row. */
  itemId(row: number): string | undefined;
  /** Encoder and scan alone, without ranker and policy: rows of the best items and their scores. */
  retrieve(session: Uint32Array, limit: number): [rows: Uint32Array, scores: Float32Array];
  /** The ranker alone: scores of whole rows of features. */
  rank(features: Float32Array): Float32Array;
  similar(itemId: string, limit: number): WireRecommendation[];
  recordInteraction(itemId: string): void;
  recordOutcome(position?: number): void;
  /** Counts how long a list took to make. */
  recordLatency(milliseconds: number): void;
  /**
   * A correction once the item at the 1-based position of the newest list was chosen: its sums and then its number of updates, in
   * and out; empty for none. A list teaches once.
   */
  learn(learned: Float32Array, position: number): Float32Array;
  telemetryState(): WireTelemetryState;
  restoreTelemetry(state: WireTelemetryState): void;
  clearTelemetry(): void;
  buildReport(windowStart: bigint, seed: Uint8Array, reportId: Uint8Array): Uint8Array;
  /**
   * Runs a conformance operation; only in builds for tests.
   * @internal
   */
  runOperation?(operation: Json): Json;
  free(): void;
}

/** The files of a bundle inside the wasm instance, until an engine takes them, or is refused. */
export interface EngineFiles {
  /** The bytes of a file, and their SHA-256 digest where the platform has hashed them. */
  add(name: string, bytes: Uint8Array, digest?: Uint8Array): void;
}

/** How the wasm module takes files; with digests of 32 bytes it throws only where the instance fails. */
export type EngineFilesConstructor = new () => EngineFiles;

/** How the wasm module makes an {@link Engine}, of keys one behind the other; throws objects that carry a stable `code`. */
export type EngineConstructor = new (files: EngineFiles, keys: Uint8Array, now: number, leastRollbackIndex: number) => Engine;

/** What a bundle must be to be opened. */
export interface Trust {
  /** Keys of which one must have signed; without any, signatures are not looked at. */
  keys: readonly Uint8Array[];
  /** The present time in Unix seconds. */
  now: number;
  leastRollbackIndex: number;
}
