import type { ErrorCode } from './errors.js';
import type { Verdict } from './outbox.js';
import type { Fetch, QueuedReport } from './types.js';

const DAY_SECONDS = 86_400;
/** A failed send is repeated within this time; twice as long with every further failure. */
const FIRST_RETRY_SECONDS = 2 * 3600;
/** What that time grows to. */
const MAX_RETRY_SECONDS = DAY_SECONDS;
/** No failed send is repeated sooner. */
const MIN_RETRY_SECONDS = 60;
/** Most requests of an outbox in a UTC day, whatever fails. */
const MAX_REQUESTS_PER_DAY = 24;
/** Longest `Retry-After` that is believed. */
const MAX_RETRY_AFTER_SECONDS = 7 * 24 * 3600;
/** The collector's refusals for good; `docs/formats/report.md` says when it gives which. */
const REFUSALS: ReadonlySet<unknown> = new Set<ErrorCode>([
  'report_too_large', 'unsupported_format_version', 'report_invalid', 'unknown_bundle', 'privacy_violation',
  'unknown_field', 'bin_out_of_range', 'report_too_early', 'report_expired', 'report_conflict',
]);
const PROBLEM = 'application/problem+json';

/** How reports travel. */
export interface Sender {
  url: string;
  fetch: Fetch;
  request: RequestInit;
  timeoutSeconds: number;
}

/** What is sent, and the id by which it is acknowledged. */
export type Sendable = Pick<QueuedReport, 'reportId' | 'body'>;

/** The address that reports are posted to; a collector is given by its base URL. */
export function reportsUrl(collectorUrl: string | URL, base?: string): string {
  const url = new URL(collectorUrl, base);
  url.pathname = `${url.pathname.replace(/\/(v1\/reports\/?)?$/, '')}/v1/reports`;
  return url.href;
}

/**
 * Posts one report, or whatever else has an id that its receipt names as `idKey`. The content type keeps the request CORS-simple. Only
 * a receipt that names this report acknowledges it: a portal's or proxy's friendly 200 does not.
 */
export async function sendReport(sender: Sender, report: Sendable, idKey = 'report_id'): Promise<Verdict> {
  try {
    const response = await sender.fetch(sender.url, {
      ...sender.request,
      method: 'POST',
      headers: { 'content-type': 'text/plain;charset=UTF-8' },
      body: report.body,
      signal: AbortSignal.timeout(sender.timeoutSeconds * 1000),
    });
    return await judge(response, report, idKey);
  } catch {
    return { kind: 'retry', retryAfterSeconds: 0 };
  }
}

/**
 * Only the collector's own word ends a report: a 403 or 404 may come from a portal, a proxy or a
 * server that is being moved, and says nothing about the report.
 */
async function judge(response: Response, report: Sendable, idKey: string): Promise<Verdict> {
  const answer = (await response.json().catch(() => ({}))) as Record<string, unknown> | null;
  if (response.ok) {
    if (answer?.[idKey] !== report.reportId) return { kind: 'retry', retryAfterSeconds: 0 };
    return { kind: answer['status'] === 'duplicate' ? 'duplicate' : 'accepted' };
  }
  const isProblem = response.headers.get('content-type')?.split(';')[0]?.trim().toLowerCase() === PROBLEM;
  const code = answer?.['code'];
  const isClientError = response.status >= 400 && response.status < 500;
  if (isClientError && isProblem && REFUSALS.has(code)) return { kind: 'dropped', code: code as ErrorCode };
  return { kind: 'retry', retryAfterSeconds: retryAfterSeconds(response.headers.get('retry-after')) };
}

/** Reads `Retry-After`, which is seconds or a date; 0 when it says nothing. */
function retryAfterSeconds(header: string | null): number {
  if (header === null) return 0;
  const seconds = /^\d+$/.test(header.trim()) ? Number(header) : (Date.parse(header) - Date.now()) / 1000;
  return Number.isFinite(seconds) ? Math.min(Math.max(seconds, 0), MAX_RETRY_AFTER_SECONDS) : 0;
}

/**
 * How long to wait before the next attempt: a time drawn evenly from zero to a bound that doubles (full jitter), after what was asked for.
 * A fleet that failed together comes back spread over hours, so that a server on its knees hears little more than on other days.
 */
export function retryDelaySeconds(attempts: number, retryAfter: number): number {
  const bound = Math.min(FIRST_RETRY_SECONDS * 2 ** Math.min(attempts, 16), MAX_RETRY_SECONDS);
  return Math.ceil(retryAfter + Math.max(Math.random() * bound, MIN_RETRY_SECONDS));
}

/** The requests of an outbox in one UTC day. */
export interface Requests {
  /** Days since 1970. */
  day: number;
  count: number;
}

/** The requests with one more at `now`; `undefined` where the day has had all of them. */
export function oneMoreRequest({ day, count }: Requests, now: number): Requests | undefined {
  const today = Math.floor(now / DAY_SECONDS);
  if (day !== today) return { day: today, count: 1 };
  return count < MAX_REQUESTS_PER_DAY ? { day, count: count + 1 } : undefined;
}

/** When requests begin again on the day after `now`; not at midnight, when those of others would, too. */
export function nextDayOf(now: number): number {
  return (Math.floor(now / DAY_SECONDS) + 1) * DAY_SECONDS + retryDelaySeconds(0, 0);
}
