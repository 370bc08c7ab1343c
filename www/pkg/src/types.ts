import type { Engine, WireCorrection } from './engine.js';
import type { ErrorCode } from './errors.js';
import type { DeviceStorage } from './storage.js';

/**
 * What the user allowed.
 * - `none`: nothing is stored on the device and nothing is sent; the session lives in memory.
 * - `device`: session and telemetry histograms are stored on the device; nothing is sent.
 * - `share`: as `device`, and one randomised report a window is sent to the collector.
 */
export type Consent = 'none' | 'device' | 'share';

/** A browser signal that forbids sending, whatever the consent says. */
export type PrivacySignal = 'gpc' | 'dnt';

/** One thing that the current user did. */
export interface SessionInteraction {
  itemId: string;
  /** Such as `view`, `cart` or `purchase`. */
  kind: string;
  /** Unix seconds. */
  timestamp: number;
}

/** An interaction to observe; the time defaults to the device's clock. */
export interface ObserveOptions {
  itemId: string;
  /** Such as `view`, `cart` or `purchase`: what the bundle was trained on. */
  kind: string;
  /** Unix seconds, not milliseconds: `Date.now() / 1000`. */
  timestamp?: number | undefined;
}

/** What was learned of a user, as `export()` shows it: opaque, and personal data of that user. */
export type Correction = WireCorrection;

/** Keeps only items that match every stated condition. */
export interface Filter {
  /** Items in at least one of these categories; empty keeps all. */
  categories?: readonly string[] | undefined;
  /** Items at or above this price; items without a price are dropped. */
  minPrice?: number | undefined;
  /** Items at or below this price; items without a price are dropped. */
  maxPrice?: number | undefined;
}

/** The site's rules for one request; what is not stated comes from the bundle. */
export interface Rules {
  /** Items that must not appear. */
  exclude?: readonly string[] | undefined;
  /** The only items that may appear; empty allows all. */
  only?: readonly string[] | undefined;
  /** Whether items of the session are left out. */
  excludeSeen?: boolean | undefined;
  filter?: Filter | undefined;
  /** Most items that share a first category, beside pins, which count for none. */
  categoryCap?: number | undefined;
  /** What is added to ranker scores before the list is made. */
  boosts?: readonly Boost[] | undefined;
  /** How much a list avoids items that resemble those before them, 0 (not at all, the default) to 1: maximal marginal
   *  relevance. */
  diversity?: number | undefined;
  /** Items at places of their own, whatever the models say and the conditions ask. */
  pins?: readonly Pin[] | undefined;
  /** The chance of each place, 0 (the default) to 1, to go to a random candidate; `seed` decides. */
  exploration?: number | undefined;
}

/** An item at a place of its own; not if it is excluded by name, or the bundle does not know it. */
export interface Pin {
  itemId: string;
  /** 1-based; one behind the end of the list is its last place. */
  position: number;
}

/** An addition to the scores of some items: those that are named, and those in one of the categories. */
export interface Boost {
  itemIds?: readonly string[] | undefined;
  categories?: readonly string[] | undefined;
  /** In units of the ranker's score, below 0 to list later. */
  add: number;
}

export interface RecommendOptions {
  /** How many recommendations are wanted, 10 by default; lowered to `bundle.limits.maxLimit`. */
  limit?: number | undefined;
  rules?: Rules | undefined;
  /** Request-time facts such as `country` or `device_class`, by the names of the columns that the bundle was trained with: a list for a
   *  user without a session begins with what users of the same segment choose, where the bundle has a list of it. Never leaves the device. */
  context?: Readonly<Record<string, string>> | undefined;
  /** Unix seconds; the device's clock by default. */
  now?: number | undefined;
  /** Seed of every random choice; derived from `now` by default. */
  seed?: number | undefined;
  /** How long the answer may take, in milliseconds: the ranker, or retrieval too, is left out where it would end later, and
   *  a fault says so. What a step takes is known from the last request with a deadline. */
  deadlineMs?: number | undefined;
  /** An item that the user is looking at: recommends as if it had just been viewed, without listing or remembering it. */
  near?: string | undefined;
  /** Used instead of the remembered session, oldest first, and not remembered. For hosts that
   *  answer for somebody else, such as edge workers. */
  session?: readonly SessionInteraction[] | undefined;
  /** Used instead of the remembered one, and not remembered; one of another bundle's features changes nothing. With a `session`
   *  there is no other. */
  correction?: Correction | undefined;
}

/** Options of {@link RecommenderBase.rank}. */
export type RankOptions = Omit<RecommendOptions, 'limit'>;

export interface SimilarOptions {
  /** 10 by default. */
  limit?: number | undefined;
}

export interface OutcomeOptions {
  /** 1-based position of the chosen item in the list that was shown; leave out when none was chosen. */
  position?: number | undefined;
  /** The chosen item, where a page has several lists: an outcome of another one than the newest is not counted. */
  itemId?: string | undefined;
}

/** Why an item is in the list, in a form that a page can show. */
export type Reason =
  | { kind: 'similar_to'; itemId: string; similarity: number }
  /** Often chosen together with an item of the session. */
  | { kind: 'chosen_with'; itemId: string; weight: number }
  | { kind: 'category'; category: string }
  | { kind: 'popular' }
  /** The site put it there. */
  | { kind: 'pinned' };

/** Which part of the engine proposed an item. */
export type Source = 'retrieval' | 'neighbours' | 'fallback' | 'pinned' | 'exploration';

export interface Recommendation {
  itemId: string;
  /** 1-based place in the list. */
  position: number;
  /** Raw ranker score, not a probability, without boosts and the user's correction; 0 for fallbacks and pinned items. */
  score: number;
  source: Source;
  /** Strongest first. */
  reasons: Reason[];
  /** The chance that its place had of getting it, given those before it; only in lists with exploration. */
  propensity?: number;
}

/** A step that was degraded but did not stop the engine. */
export type FaultCode =
  | 'empty_session'
  | 'unknown_items'
  | 'encoder_failed'
  | 'ranker_failed'
  | 'too_few_items'
  | 'limit_lowered'
  /** A step would have ended after `deadlineMs` and was left out. */
  | 'deadline_exceeded'
  /** The engine itself failed; the list is the popularity list under the same rules. */
  | 'engine_failed';

export interface Fault {
  code: FaultCode;
  /** The evidence, for people. */
  detail: string;
}

export interface RecommendResponse {
  /** By position; may be empty, never missing. */
  recommendations: Recommendation[];
  /** In the order in which they happened. */
  faults: Fault[];
}

/** What is loaded. */
export interface BundleInfo {
  /** SHA-256 of the manifest, 64 hex digits. */
  hash: string;
  name: string;
  version: number;
  recommender: string;
  numItems: number;
  /** Length of all files but the manifest. */
  bytes: number;
  /** Whether the folder could not be opened and this is the last bundle of it that could. */
  isLastGood: boolean;
  limits: { maxCandidates: number; maxLimit: number; maxSessionLen: number };
  /** The constants that bound what can leave the device. */
  telemetry: { epsilon: number; fieldsPerReport: number; reportBytes: number; windowSeconds: number };
}

/** Anything the compiled engine can be made of. */
export type WasmSource = string | URL | Response | BufferSource | WebAssembly.Module;

/** The part of `fetch` that this package uses. */
export type Fetch = (url: string, init?: RequestInit) => Promise<Response>;

/** An Ed25519 public key: 32 bytes or 64 hex digits. */
export type PublicKey = Uint8Array | string;

export interface LoadOptions {
  /** Folder of the bundle: an absolute or page-relative URL; in Node also a path. */
  baseUrl?: string | URL | undefined;
  /**
   * The channel that named the folder: its bundles share the one that is kept and the largest `rollback_index` that was seen. Without
   * `baseUrl`, as when the channel cannot be read, the bundle that is kept.
   */
  channelUrl?: string | URL | undefined;
  /** The bundle's files by name, instead of `baseUrl`. */
  files?: Readonly<Record<string, Uint8Array | ArrayBuffer>> | undefined;
  /** An engine that is already loaded, instead of `baseUrl` or `files`. Its telemetry is cleared, it
   *  serves one recommender at a time, and `free()` leaves it alone. */
  engine?: Engine | undefined;
  /**
   * Ed25519 keys of which one must have signed the manifest, each 32 bytes or 64 hex digits: several while a new key takes the place of an
   * old one.
   */
  publicKey?: PublicKey | readonly PublicKey[];
  /**
   * The least `rollback_index` of the manifest: a bundle with a smaller one was taken back, and is refused. With a
   * `publicKey`, browsers that keep bundles also remember the largest one of the folder, or of the channel.
   */
  minRollbackIndex?: number | undefined;
  /** The compiled engine, where the default loader cannot find it. The first load decides. */
  wasm?: WasmSource | undefined;
  /** The same for the full runtime, which `sanderling` loads only for a bundle that needs it. */
  fullWasm?: WasmSource | undefined;
  /** Used for the bundle and for reports instead of the global `fetch`. */
  fetch?: Fetch | undefined;
  /** Stops a load. After `AbortSignal.timeout` a bundle that was kept is opened, where there is one; else the code is `io`. */
  signal?: AbortSignal | undefined;
  /** Refuses larger bundles before they are fetched; 256 MiB by default. */
  maxBundleBytes?: number | undefined;
  /** Whether a browser keeps the last bundle that was opened, and opens it where its folder cannot be fetched or holds one that is
   *  refused; true by default, and never with the consent `none`. */
  keepBundle?: boolean | undefined;
  /** What the user chose; the package does not remember it, so that every load is told. Without a choice it is `device`, or `none` where the browser sends Global
   *  Privacy Control or Do Not Track; such a signal also lowers `share` to `device`. */
  consent?: Consent | undefined;
  /** Base URL of the collector; without it nothing is ever sent. */
  collectorUrl?: string | URL | undefined;
  /** Where state is kept; IndexedDB where it works. Otherwise memory, from which nothing is reported. */
  storage?: DeviceStorage | undefined;
  /** Name of the IndexedDB database, `sanderling` by default. */
  storageName?: string | undefined;
  /** Most remembered interactions, 200 by default, 0 for none; older ones are forgotten. */
  maxSessionLength?: number | undefined;
  /** A pause of more seconds ends a session: the engine is asked with what came after the last one. By default
   *  1,800 for a bundle that was trained on sessions (`--split next-click`), else `Infinity`. */
  sessionIdleSeconds?: number | undefined;
  /** Whether `recordOutcome` learns a correction of the ranker for this user, which is kept on the device and never sent; false by
   *  default. */
  personalise?: boolean | undefined;
  /** Whether ended windows are reported and failed sends retried without a call of `flush`;
   *  true by default. */
  autoSend?: boolean | undefined;
  /** How long one send may take, 10 by default. */
  sendTimeoutSeconds?: number | undefined;
}

/** Why the open window cannot be reported now. */
export type NotReportable =
  | 'consent'
  | 'privacy_signal'
  | 'no_collector'
  /** Nothing durable works here, or answers, so a window that was reported could be reported again. */
  | 'no_storage'
  | 'already_reported'
  | 'nothing_observed';

/** What has happened to this device's reports so far. */
export interface ReportCounters {
  accepted: number;
  /** Acknowledged as already counted, after a lost answer. */
  duplicate: number;
  /** Refused for good, by code. */
  dropped: Record<string, number>;
}

/** A report that waits for an acknowledgement. */
export interface QueuedReport {
  reportId: string;
  /** Unix seconds. */
  windowStart: number;
  /** Exactly what is sent. */
  body: string;
  attempts: number;
  /** Unix seconds before which it is not sent again. */
  notBefore: number;
}

/** Everything about reports that a privacy panel shows. */
export interface TelemetryPreview {
  /** The consent in force, after privacy signals. */
  consent: Consent;
  privacySignal: PrivacySignal | null;
  /** Unix seconds. */
  windowStart: number;
  windowSeconds: number;
  epsilon: number;
  /** The report that `flush` would send if nothing else is observed; `null` when there is none. */
  report: Record<string, unknown> | null;
  /** Its exact bytes as text. */
  body: string | null;
  /** Why `report` is `null`. */
  notReportable: NotReportable | null;
  /** Reports that already wait in the outbox. */
  outbox: QueuedReport[];
  counters: ReportCounters;
  /** The exact histograms of the open window; they stay on the device. */
  state: unknown;
}

export interface FlushOptions {
  /** Unix seconds; the device's clock by default. */
  now?: number | undefined;
}

export interface FlushResult {
  /** Whether this call closed the window and queued its report. */
  closed: boolean;
  /** Why it did not. */
  notReportable: NotReportable | null;
  accepted: number;
  duplicate: number;
  /** Codes of reports that the collector refused for good. */
  dropped: (ErrorCode | string)[];
  /** Reports that still wait. */
  waiting: number;
  /** Unix seconds of the next attempt, when some wait. */
  nextAttemptAt: number | null;
}

/** Everything that is kept, as returned by `export()`. Without consent nothing is stored: there are no records, and the session is in memory. */
export interface DeviceExport {
  bundle: { hash: string; name: string; version: number };
  consent: Consent;
  /** Where it is kept. */
  storage: string;
  /** What this page has in memory, stored or not. */
  session: SessionInteraction[];
  /** Every stored record, by key. */
  records: Record<string, unknown>;
}
