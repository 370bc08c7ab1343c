import type { Json } from './engine.js';
import type { Keeper } from './keeper.js';
import { nextDayOf, oneMoreRequest, type Requests } from './sender.js';
import type { QueuedReport, ReportCounters } from './types.js';

/** Key of the record that holds the outbox and the ledger of reported windows. */
export const REPORTS_KEY = 'reports';

/** Most reports that wait; the oldest give way, and are counted as dropped. */
const MAX_QUEUED = 16;
/** How long a claimed report is left to the tab that sends it. */
const CLAIM_SECONDS = 60;
/** Most reported windows that are remembered one by one. */
const MAX_REPORTED = 64;

/** One record, so that "this window was reported" and "this report waits" are one atomic write. */
export interface Reports {
  /** Start of the last reported window; no window up to it is reported again. */
  lastWindowStart: number | null;
  /** The windows that were reported last, by their starts: where the clock goes back behind some of them, none is reported again. */
  reportedWindowStarts: number[];
  outbox: QueuedReport[];
  counters: ReportCounters;
  /** So that no storm of failures becomes one of requests. */
  requests: Requests;
}

/** What became of one send. */
export type Verdict =
  | { kind: 'accepted' }
  | { kind: 'duplicate' }
  | { kind: 'dropped'; code: string }
  | { kind: 'retry'; retryAfterSeconds: number };

/** The durable queue of reports; an entry leaves it only on an acknowledgement or a final refusal. */
export class Outbox {
  readonly #keeper: Keeper;
  /** The ledger as this page knows it, for when storage is taken away in between. */
  #lastWindowStart: number | null = null;
  #reportedWindowStarts: number[] = [];

  constructor(keeper: Keeper) {
    this.#keeper = keeper;
  }

  /** The current record. */
  async read(): Promise<Reports> {
    return this.#read(await this.#keeper.enqueue((storage) => storage.get(REPORTS_KEY)));
  }

  /** Queues the report of a window, unless that window was reported before by any tab. */
  async add(report: QueuedReport): Promise<boolean> {
    let added = false;
    await this.#update((reports) => {
      if (isReported(reports, report.windowStart)) return reports;
      added = true;
      this.#lastWindowStart = report.windowStart;
      this.#reportedWindowStarts = [...reports.reportedWindowStarts, report.windowStart].slice(-MAX_REPORTED);
      const waiting = [...reports.outbox, report];
      const outbox = waiting.slice(-MAX_QUEUED);
      const counters = countDropped(reports.counters, 'overloaded', waiting.length - outbox.length);
      const ledger = { lastWindowStart: this.#lastWindowStart, reportedWindowStarts: this.#reportedWindowStarts };
      return { ...reports, ...ledger, outbox, counters };
    });
    return added;
  }

  /** Takes a report that is due, so that no other tab sends it at the same time. Where the day has had its requests, all wait for the next. */
  async claim(now: number): Promise<QueuedReport | undefined> {
    let claimed: QueuedReport | undefined;
    const isWritten = await this.#update((reports) => {
      claimed = reports.outbox.find((report) => report.notBefore <= now);
      if (claimed === undefined) return reports;
      const requests = oneMoreRequest(reports.requests, now);
      if (requests === undefined) {
        claimed = undefined;
        return { ...reports, outbox: postponed(reports.outbox, now, nextDayOf(now)) };
      }
      const { reportId, attempts } = claimed;
      const outbox = reports.outbox.map((report) =>
        report.reportId === reportId ? { ...report, attempts: attempts + 1, notBefore: now + CLAIM_SECONDS } : report,
      );
      return { ...reports, outbox, requests };
    });
    // What could not be claimed would be sent again and again.
    return isWritten ? claimed : undefined;
  }

  /** Applies the verdict on one report. After "later", it and everything that is due wait until `notBefore` without asking again. */
  async settle(reportId: string, verdict: Verdict, now: number, notBefore: number): Promise<void> {
    await this.#update((reports) => {
      // Erased while it was on its way: nothing is left to note.
      if (!reports.outbox.some((report) => report.reportId === reportId)) return reports;
      if (verdict.kind === 'retry') return { ...reports, outbox: postponed(reports.outbox, now, notBefore, reportId) };
      const outbox = reports.outbox.filter((report) => report.reportId !== reportId);
      if (verdict.kind === 'dropped') {
        return { ...reports, outbox, counters: countDropped(reports.counters, verdict.code, 1) };
      }
      const counters = { ...reports.counters, [verdict.kind]: reports.counters[verdict.kind] + 1 };
      return { ...reports, outbox, counters };
    });
  }

  /** Empties the outbox and the counters. The last window stays, and those that lie ahead of it: erasing is no way to report twice. Resolves to whether it could. */
  erase(): Promise<boolean> {
    return this.#keeper.write((storage) =>
      storage.update(REPORTS_KEY, (stored) => {
        const { lastWindowStart, reportedWindowStarts } = this.#read(stored);
        this.#reportedWindowStarts = reportedWindowStarts.filter((start) => start > (lastWindowStart ?? Infinity));
        if (this.#reportedWindowStarts.length > 0) return { lastWindowStart, reportedWindowStarts: this.#reportedWindowStarts } as Json;
        return lastWindowStart === null ? undefined : ({ lastWindowStart } as Json);
      }),
    );
  }

  /**
   * Lets the ledger follow a clock that shows `now`, in Unix seconds: where the last window is more than one ahead of it, the window of now counts as the
   * last one, until the clock has come to another that was reported.
   */
  async followClock(now: number, windowSeconds: number): Promise<void> {
    const present = Math.floor(now / windowSeconds) * windowSeconds;
    const followed = ({ lastWindowStart: last, reportedWindowStarts: starts }: Reports): number | null => {
      if (last === null) return null;
      return Math.max(last > now + windowSeconds ? present : last, ...starts.filter((start) => start <= present));
    };
    const follow = (reports: Reports): Reports => {
      const { lastWindowStart: last, reportedWindowStarts: starts } = reports;
      this.#lastWindowStart = followed(reports);
      // What was the last one may be known by that alone.
      if (last !== null && !starts.includes(last)) this.#reportedWindowStarts = [...starts, last].slice(-MAX_REPORTED);
      return { ...reports, lastWindowStart: this.#lastWindowStart, reportedWindowStarts: this.#reportedWindowStarts };
    };
    await this.#keeper.enqueue(async (storage) => {
      const before = this.#read(await storage.get(REPORTS_KEY));
      if (followed(before) === before.lastWindowStart) return;
      await storage.update(REPORTS_KEY, (stored) => follow(this.#read(stored)) as unknown as Json);
    });
  }

  /** Writes the ledger into a storage that has just been allowed. */
  async carryLedger(): Promise<void> {
    await this.#update((reports) => (reports.lastWindowStart === null ? reports : { ...reports }));
  }

  /** Reads the record; the ledger never goes back. */
  #read(stored: Json | undefined): Reports {
    const reports = readReports(stored);
    const known = [reports.lastWindowStart, this.#lastWindowStart].filter((start) => start !== null);
    this.#lastWindowStart = known.length === 0 ? null : Math.max(...known);
    this.#reportedWindowStarts = [...new Set([...reports.reportedWindowStarts, ...this.#reportedWindowStarts])].slice(-MAX_REPORTED);
    return { ...reports, lastWindowStart: this.#lastWindowStart, reportedWindowStarts: this.#reportedWindowStarts };
  }

  /** Resolves to whether the record is stored. */
  async #update(change: (reports: Reports) => Reports): Promise<boolean | undefined> {
    return this.#keeper.enqueue(async (storage) => {
      await storage.update(REPORTS_KEY, (stored) => {
        const before = this.#read(stored);
        const after = change(before);
        return after === before ? stored : (after as unknown as Json);
      });
      return true;
    });
  }
}

/** Whether a window was reported, or one behind it. */
export function isReported({ lastWindowStart, reportedWindowStarts }: Reports, windowStart: number): boolean {
  return (lastWindowStart !== null && lastWindowStart >= windowStart) || reportedWindowStarts.includes(windowStart);
}

/** Lets everything that is due at `now`, and the report of an id, wait until `notBefore`. */
function postponed(outbox: QueuedReport[], now: number, notBefore: number, reportId?: string): QueuedReport[] {
  return outbox.map((report) => (report.notBefore <= now || report.reportId === reportId ? { ...report, notBefore } : report));
}

/** The counters after `times` refusals with a code. */
export function countDropped(counters: ReportCounters, code: string, times: number): ReportCounters {
  if (times <= 0) return counters;
  return { ...counters, dropped: { ...counters.dropped, [code]: (counters.dropped[code] ?? 0) + times } };
}

/** Reads the record back; whatever is damaged counts as absent. */
function readReports(stored: Json | undefined): Reports {
  const from = (typeof stored === 'object' && stored !== null ? stored : {}) as Record<string, unknown>;
  const counters = (from['counters'] ?? {}) as Record<string, unknown>;
  const requests = (from['requests'] ?? {}) as Record<string, unknown>;
  const queued = Array.isArray(from['outbox']) ? (from['outbox'] as unknown[]) : [];
  return {
    lastWindowStart: Number.isSafeInteger(from['lastWindowStart']) ? (from['lastWindowStart'] as number) : null,
    reportedWindowStarts: Array.isArray(from['reportedWindowStarts']) ? (from['reportedWindowStarts'] as number[]).filter(Number.isSafeInteger) : [],
    outbox: queued.filter(isQueuedReport),
    counters: {
      accepted: wholeNumber(counters['accepted']),
      duplicate: wholeNumber(counters['duplicate']),
      dropped: { ...(counters['dropped'] as Record<string, number> | undefined) },
    },
    requests: { day: wholeNumber(requests['day']), count: wholeNumber(requests['count']) },
  };
}

function wholeNumber(value: unknown): number {
  return Number.isSafeInteger(value) ? (value as number) : 0;
}

function isQueuedReport(value: unknown): value is QueuedReport {
  const report = (value ?? {}) as Record<string, unknown>;
  return (
    typeof report['reportId'] === 'string' && typeof report['body'] === 'string' &&
    ['windowStart', 'attempts', 'notBefore'].every((key) => Number.isFinite(report[key]))
  );
}
