/**
 * Every code that an error of this package can carry, with what it means. Codes, order and
 * sentences are those of the Rust crates; HTTP problem documents use them too.
 */
export const ERROR_CODES = {
  manifest_invalid: 'The manifest is not valid JSON of the declared shape.',
  unsupported_format_version: 'A file was written in a format version that this build does not read.',
  file_missing: 'A file that the manifest names was not supplied.',
  file_truncated: 'A file\'s length differs from the manifest\'s; fetch it again.',
  hash_mismatch: 'A file\'s SHA-256 differs from the manifest\'s; it was changed or damaged.',
  signature_missing: 'A public key was given but the bundle carries no signature.',
  signature_invalid: 'No trusted key has signed the manifest, or its signature does not verify.',
  bundle_expired: 'The bundle\'s time is over; publish it again.',
  bundle_rolled_back: 'The bundle is older than one that this host has seen, and was taken back.',
  incompatible_features: 'The feature spec is not the one this engine computes.',
  items_invalid: 'items.bin is malformed or disagrees with the manifest.',
  neighbours_invalid: 'neighbours.bin is malformed or disagrees with the manifest.',
  content_invalid: 'content.bin is malformed or disagrees with the manifest.',
  vocabulary_invalid: 'vocabulary.bin is malformed or disagrees with the manifest.',
  baseline_invalid: 'baseline.json is malformed or disagrees with the feature spec.',
  model_invalid: 'A model is malformed, uses what is not allowed, or has the wrong shapes.',
  model_not_slim: 'A model is not one that the slim runtime runs: it needs the full runtime.',
  limit_exceeded: 'An input is larger than the declared limit.',
  inference_failed: 'A model failed while running.',
  invalid_argument: 'An argument has the wrong type or is out of range.',
  unknown_item: 'The item is not in this bundle\'s vocabulary.',
  unknown_layout: 'The import layout is not known; see `sanderling import --help`.',
  column_missing: 'A required column is missing; map it with --column.',
  data_invalid: 'A row cannot be read as an interaction or an item.',
  empty_data: 'There is nothing to work on after reading the data.',
  split_unsupported: 'The data does not support the requested split.',
  feature_leaks: 'A feature knows what happened after the case that it is to predict.',
  recipe_invalid: 'The recipe has an unknown key or a value out of range.',
  budget_exceeded: 'The bundle is larger than the recipe\'s byte budget.',
  training_failed: 'Training produced a value that is not finite.',
  report_invalid: 'The report is not valid JSON of the declared shape.',
  report_too_large: 'The report is larger than the declared limit.',
  report_too_early: 'The report\'s window starts in the future, beyond the tolerance.',
  report_expired: 'The report\'s window is older than the retention.',
  report_conflict: 'A report of another window or bundle with this id was already counted.',
  unknown_bundle: 'No baseline with this bundle hash is registered.',
  unknown_field: 'The report carries a field that the schema does not declare.',
  bin_out_of_range: 'An observation\'s bin is outside the field\'s domain.',
  privacy_violation: 'The report claims other privacy constants than the bundle declares.',
  overloaded: 'The queue is full; retry after the stated time.',
  storage_full: 'The disk is full; nothing was stored.',
  storage: 'The store failed.',
  not_found: 'There is nothing at this address.',
  io: 'Reading or writing a file failed.',
  cancelled: 'The work was stopped on request; nothing half-written was left.',
  internal: 'A broken promise of our own; please report it.',
} as const;

/** A stable, machine-readable error code. */
export type ErrorCode = keyof typeof ERROR_CODES;

/** The evidence behind an error. */
export interface ErrorDetails {
  /** What was expected, where that can be said. */
  expected?: string;
  /** What was found instead. */
  found?: string;
  /** What to do about it. */
  hint?: string;
}

/** The only error that this package throws. Branch on `code`; `message` is for people. */
export class RecommenderError extends Error {
  override readonly name = 'RecommenderError';
  /** The stable code. */
  readonly code: ErrorCode;
  /** The evidence. */
  readonly details: ErrorDetails;

  constructor(code: ErrorCode, message: string, details: ErrorDetails = {}, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.code = code;
    this.details = details;
  }

  /** The form in which errors cross HTTP and logs; the same keys as the Rust error. */
  toJSON(): { code: ErrorCode; message: string; expected: string | null; found: string | null; hint: string | null } {
    const { expected = null, found = null, hint = null } = this.details;
    return { code: this.code, message: this.message, expected, found, hint };
  }
}

/** Whether a value is one of the keys of {@link ERROR_CODES}. */
export function isErrorCode(text: unknown): text is ErrorCode {
  return typeof text === 'string' && Object.hasOwn(ERROR_CODES, text);
}

/** Turns whatever the engine or the host threw into a {@link RecommenderError}, once. */
export function toRecommenderError(thrown: unknown, fallback: ErrorCode, message: string): RecommenderError {
  if (thrown instanceof RecommenderError) return thrown;
  const from = (typeof thrown === 'object' && thrown !== null ? thrown : {}) as Record<string, unknown>;
  if (isErrorCode(from['code'])) {
    return new RecommenderError(from['code'], text(from['message']) ?? message, detailsOf(from), thrown);
  }
  const found = text(from['message']) ?? String(thrown);
  return new RecommenderError(fallback, message, { found }, thrown);
}

function detailsOf(from: Record<string, unknown>): ErrorDetails {
  const details: ErrorDetails = {};
  for (const key of ['expected', 'found', 'hint'] as const) {
    const value = text(from[key]);
    if (value !== undefined) details[key] = value;
  }
  return details;
}

function text(value: unknown): string | undefined {
  return typeof value === 'string' ? value : undefined;
}
