import type { ERROR_CODES } from './error-codes.js';

/** A stable, machine-readable error code; what each means is in `ERROR_CODES` of `sanderling/errors`. */
export type ErrorCode = keyof typeof ERROR_CODES;

/** The codes without their meaning, which most pages never show. */
const CODES: ReadonlySet<string> = new Set(`
  manifest_invalid unsupported_format_version file_missing file_truncated hash_mismatch signature_missing
  signature_invalid bundle_expired bundle_rolled_back incompatible_features items_invalid neighbours_invalid
  content_invalid vocabulary_invalid segments_invalid baseline_invalid model_invalid model_not_slim limit_exceeded inference_failed
  invalid_argument unknown_item unknown_layout column_missing data_invalid empty_data split_unsupported feature_leaks
  recipe_invalid budget_exceeded training_failed report_invalid report_too_large report_too_early report_expired
  report_conflict unknown_bundle unknown_field bin_out_of_range privacy_violation overloaded storage_full storage
  not_found io cancelled internal
`.trim().split(/\s+/));

/** The evidence behind an error. */
export interface ErrorDetails {
  /** What was expected, where that can be said. */
  expected?: string;
  /** What was found instead. */
  found?: string;
  /** What to do about it. */
  hint?: string;
}

/** The only error that this package throws. Branch on `code`; `message` is for people, with the evidence in it. */
export class RecommenderError extends Error {
  override readonly name = 'RecommenderError';
  /** What is wrong, without the evidence. */
  readonly summary: string;
  /** The stable code. */
  readonly code: ErrorCode;
  /** The evidence. */
  readonly details: ErrorDetails;

  constructor(code: ErrorCode, summary: string, details: ErrorDetails = {}, cause?: unknown) {
    super(summary + evidence(details), cause === undefined ? undefined : { cause });
    this.summary = summary;
    this.code = code;
    this.details = details;
  }

  /** The form in which errors cross HTTP and logs; the same keys as the Rust error. */
  toJSON(): { code: ErrorCode; message: string; expected: string | null; found: string | null; hint: string | null } {
    const { expected = null, found = null, hint = null } = this.details;
    return { code: this.code, message: this.summary, expected, found, hint };
  }
}

/** As the Rust crates print it. */
function evidence({ expected, found, hint }: ErrorDetails): string {
  const both = [expected && `expected ${expected}`, found && `found ${found}`].filter(Boolean).join(', ');
  return (both && `: ${both}`) + (hint ? `; ${hint}` : '');
}

/** Whether a value is one of the codes. */
export function isErrorCode(text: unknown): text is ErrorCode {
  return typeof text === 'string' && CODES.has(text);
}

/** Whether somebody stopped what `signal` stops. Where its time was up that is the server's fault. */
export function isStopped(signal: AbortSignal | undefined): boolean {
  return signal?.aborted === true && (signal.reason as Partial<Error> | undefined)?.name !== 'TimeoutError';
}

/** Turns whatever the engine or the host threw into a {@link RecommenderError}, once. Of what the host threw, `hint` says what to do. */
export function toRecommenderError(thrown: unknown, fallback: ErrorCode, message: string, hint?: string): RecommenderError {
  if (thrown instanceof RecommenderError) return thrown;
  const from = (typeof thrown === 'object' && thrown !== null ? thrown : {}) as Record<string, unknown>;
  if (isErrorCode(from['code'])) {
    // One of another copy of this package has them apart.
    const details = typeof from['details'] === 'object' && from['details'] !== null ? (from['details'] as Record<string, unknown>) : from;
    return new RecommenderError(from['code'], text(from['summary']) ?? text(from['message']) ?? message, detailsOf(details), thrown);
  }
  const found = text(from['message']) ?? String(thrown);
  return new RecommenderError(fallback, message, { found, ...(hint && { hint }) }, thrown);
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
