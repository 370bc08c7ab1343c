import { clockSeconds, timeOf } from './arguments.js';
import { effectiveConsent, privacySignal } from './consent.js';
import { combineStates, hasCounts, sameCounts } from './counts.js';
import type { Engine, Json, WireTelemetryState, WireWindow } from './engine.js';
import { MAX_TIMER_MILLIS } from './globals.js';
import type { Keeper } from './keeper.js';
import { LiveEngine } from './live-engine.js';
import { isReported, Outbox, type Reports } from './outbox.js';
import { retryDelaySeconds, sendReport, type Sender } from './sender.js';
import { notRemoved } from './storage.js';
import type { BundleInfo, Consent, FlushOptions, FlushResult, NotReportable, QueuedReport, TelemetryPreview } from './types.js';

/** What telemetry needs to know about its recommender. */
export interface TelemetrySettings {
  engine: Engine;
  /** Whether nobody else has used the engine, which has counted nothing then. */
  engineIsNew: boolean;
  bundle: BundleInfo;
  keeper: Keeper;
  /** `undefined` without a collector. */
  sender: Sender | undefined;
  /** The consent that the user gave. */
  consent: () => Consent;
  autoSend: boolean;
  /** Called when an engine that failed was replaced. */
  replaced: () => void;
}

/** The random numbers of the next report, drawn once so that a preview shows what will be sent. */
interface Draft {
  seed: Uint8Array;
  reportId: Uint8Array;
}

/** The stored record of an open window. */
interface StoredWindow {
  windowStart: number;
  state: WireTelemetryState;
}

/** What the keys of stored windows begin with; the bundle's hash follows. */
const KEY_PREFIX = 'telemetry/';
/** How long counts are gathered before they are written. */
const SAVE_DELAY_MILLIS = 500;
/** How long storage that did not answer is left alone with reports. */
const STUCK_RETRY_SECONDS = 60;

/**
 * Counts what happens in a window, on the device, and makes of each window at most one randomised
 * report. The engine holds the histograms; this class knows the time, the consent and the storage.
 */
export class Telemetry {
  readonly #settings: TelemetrySettings;
  readonly #outbox: Outbox;
  readonly #key: string;
  #windowStart: number | undefined;
  /** The counts at the last exchange with storage; the difference to them is ours to add. */
  /** Absent as long as nothing was ever to be stored. */
  #savedState: WireTelemetryState | undefined;
  #draft: Draft | undefined;
  #saveTimer: ReturnType<typeof setTimeout> | undefined;
  #sending: Promise<unknown> = Promise.resolve();
  #timer: ReturnType<typeof setTimeout> | undefined;
  #isStopped = false;
  /** What was counted until it was stopped. */
  #finalState: WireTelemetryState | undefined;
  /** Whether what an earlier visit left is taken up: what comes before must not be written over it by a page that is gone. */
  #isTakenUp = true;
  /** Counts erases: what was read before one does not come back after it. */
  #numErases = 0;

  /** @internal Recommenders make their own. */
  constructor(settings: TelemetrySettings) {
    this.#settings = settings;
    this.#outbox = new Outbox(settings.keeper);
    this.#key = `${KEY_PREFIX}${settings.bundle.hash}`;
    if (!settings.engineIsNew) settings.engine.clearTelemetry();
    if (settings.consent() !== 'none') this.#savedState = emptyStateOf(settings.engine);
    if (settings.engine instanceof LiveEngine) {
      // What was counted since the last exchange with storage is lost with the engine that failed.
      settings.engine.onReplaced((engine) => this.#savedState && engine.restoreTelemetry(this.#savedState), settings.replaced);
    }
  }

  /**
   * Shows exactly what is counted, what waits, and the report that {@link Telemetry.flush} would
   * send if nothing else were observed: the same bytes, drawn with the same random numbers.
   */
  async preview(): Promise<TelemetryPreview> {
    await this.#save();
    const { bundle, engine } = this.#settings;
    const reports = await this.#outbox.read();
    const notReportable = this.#notReportable(reports);
    const body = notReportable === null ? this.#buildReport().body : null;
    return {
      consent: this.#consent(),
      privacySignal: privacySignal(),
      windowStart: this.#openWindow(),
      windowSeconds: bundle.telemetry.windowSeconds,
      epsilon: bundle.telemetry.epsilon,
      report: body === null ? null : (JSON.parse(body) as Record<string, unknown>),
      body,
      notReportable,
      outbox: reports.outbox,
      counters: reports.counters,
      state: engine.telemetryState(),
    };
  }

  /**
   * Closes the open window, queues its report durably, and sends every report that is due. Never
   * rejects for a collector that is away: what was not acknowledged waits.
   */
  async flush(options: FlushOptions = {}): Promise<FlushResult> {
    const now = timeOf(options.now, 'now');
    const endedBefore = await this.enter(now);
    await this.#save();
    const notReportable = this.#notReportable(await this.#outbox.read());
    const closedNow = notReportable === null && (await this.#close());
    if (closedNow) await this.#startWindow(this.#openWindow(), true);
    const closed = endedBefore || closedNow;
    const sent = await this.#send(now);
    return { ...sent, closed, notReportable: closed ? null : (notReportable ?? 'already_reported') };
  }

  /**
   * Forgets the histograms and every waiting report; the session stays.
   *
   * @throws RecommenderError `io` where something that is stored could not be removed: ask again.
   */
  async erase(): Promise<void> {
    if (!(await this.forget())) throw notRemoved(this.#settings.keeper.storage);
  }

  /** @internal Erases; resolves to whether it could. */
  async forget(): Promise<boolean> {
    this.#numErases += 1;
    const done = await Promise.all([this.#startWindow(undefined, false), this.#dropWindows(), this.discardReports()]);
    return !done.includes(false);
  }

  /** @internal Notes in a new storage which window was reported last. */
  async carryLedger(): Promise<void> {
    await this.#outbox.carryLedger();
  }

  /** @internal Forgets every waiting report; the histograms stay. Resolves to whether it could. */
  discardReports(): Promise<boolean> {
    clearTimeout(this.#timer);
    return this.#outbox.erase();
  }

  /**
   * @internal Called before anything is counted at `now`: a window that has ended is closed first.
   * Resolves to whether a report was queued.
   */
  enter(now: number): Promise<boolean> {
    const { windowSeconds } = this.#settings.bundle.telemetry;
    if (now > this.#latestBelievable()) return Promise.resolve(false);
    const start = Math.floor(now / windowSeconds) * windowSeconds;
    if (this.#windowStart !== undefined && this.#windowStart > this.#latestBelievable()) {
      // The clock was ahead, and was put right: that window was never lived through.
      this.#settings.keeper.track(this.#leaveFuture());
    }
    if (this.#windowStart === undefined) this.#windowStart = start;
    if (start <= this.#windowStart) return Promise.resolve(false);
    const reportable = this.#mayQueue() && this.#counted().num_lists > 0;
    // The report is built before the counts are cleared; only queueing it takes time.
    const closing = reportable ? this.#close() : Promise.resolve(false);
    this.#settings.keeper.track(this.#startWindow(start, false));
    if (reportable) this.#settings.keeper.track(closing.then(() => this.sendSoon()));
    return closing.catch(() => false);
  }

  /** @internal Runs `work` so that it counts nothing when its time is too far ahead to be believed. */
  counting<T>(now: number, work: () => T): T {
    void this.enter(now);
    if (now <= this.#latestBelievable()) return work();
    const { engine } = this.#settings;
    const before = engine.telemetryState();
    try {
      return work();
    } finally {
      engine.restoreTelemetry(before);
    }
  }

  /** @internal Called after anything was counted; writes are gathered. */
  changed(): void {
    if (this.#saveTimer !== undefined || this.#consent() === 'none') return;
    this.#saveTimer = setTimeout(() => this.saveNow(), SAVE_DELAY_MILLIS);
    letProcessEnd(this.#saveTimer);
  }

  /** @internal Lets the next write have all that was counted, into a storage that has just been allowed. */
  saveAll(): void {
    this.#savedState = emptyStates.get(this.#settings.engine);
    this.changed();
  }

  /** @internal Writes what was gathered, without waiting any longer. */
  saveNow(): void {
    if (this.#saveTimer !== undefined) this.#settings.keeper.track(this.#save());
  }

  /**
   * @internal Takes up what earlier visits left, once storage answers: an open window goes on, an ended one is closed. All of it is queued at
   * once, before anything that this visit writes.
   */
  async restore(): Promise<void> {
    const numErases = this.#numErases;
    this.#isTakenUp = false;
    // Counts of another bundle can no longer be reported, so there is no reason to keep them.
    void this.#dropWindows(this.#key);
    void this.#outbox.followClock(clockSeconds(), this.#settings.bundle.telemetry.windowSeconds);
    let closed: Promise<unknown> | undefined;
    await this.#settings.keeper.enqueue(async (storage) => {
      const stored = readWindow(await storage.get(this.#key).catch(() => undefined));
      if (this.#isStopped && stored !== undefined) return;
      this.#isTakenUp = true;
      if (stored !== undefined && numErases === this.#numErases) closed = this.#takeUp(stored);
    });
    await closed;
    this.sendSoon();
  }

  /** @internal Sends what is due without being asked, where that is allowed; where storage does not answer, when it does. */
  sendSoon(): void {
    const { autoSend, keeper } = this.#settings;
    if (!autoSend || this.#isStopped || !this.#mayQueue()) return;
    if (keeper.isStuck) void keeper.settled(true).then(() => this.sendSoon());
    else keeper.track(this.#send());
  }

  /** @internal Writes what was gathered and stops every timer. */
  stop(): void {
    this.saveNow();
    try {
      // For writes that the engine does not live to see.
      this.#finalState = this.#settings.engine.telemetryState();
    } catch {
      // What it had counted since the last write is lost with it.
    }
    this.#isStopped = true;
    clearTimeout(this.#timer);
  }

  /** Takes up a stored window. Where storage was late, there are counts already, of the present one. */
  #takeUp(stored: StoredWindow): Promise<unknown> {
    const { engine } = this.#settings;
    const present = this.#windowStart;
    // The next write adds them up.
    this.changed();
    if (stored.windowStart === present) return Promise.resolve();
    if (stored.windowStart > this.#latestBelievable()) return this.#drop();
    try {
      const counted = present === undefined ? undefined : engine.telemetryState();
      engine.restoreTelemetry(stored.state);
      this.#windowStart = stored.windowStart;
      this.#savedState = stored.state;
      const closed = this.enter(clockSeconds());
      if (counted !== undefined && this.#windowStart === present) engine.restoreTelemetry(counted);
      return closed;
    } catch {
      return this.#startWindow(undefined, true);
    }
  }

  #consent(): Consent {
    return effectiveConsent(this.#settings.consent());
  }

  /** Whether a report may wait, for storage to answer, too. */
  #mayQueue(): boolean {
    return this.#consent() === 'share' && this.#settings.sender !== undefined && this.#settings.keeper.isDurable;
  }

  #mayReport(): boolean {
    return this.#mayQueue() && !this.#settings.keeper.isStuck;
  }

  /** A time further ahead of the device's clock must not close windows that were not lived through. */
  #latestBelievable(): number {
    return clockSeconds() + this.#settings.bundle.telemetry.windowSeconds;
  }

  #openWindow(): number {
    if (this.#windowStart === undefined) void this.enter(clockSeconds());
    return this.#counted().window_start ?? this.#windowStart ?? 0;
  }

  /** The open window; but for outcomes every field has a value of this device as soon as it has one list. */
  #counted(): WireWindow {
    return this.#settings.engine.telemetryState().current;
  }

  #notReportable(reports: Reports): NotReportable | null {
    if (this.#settings.consent() === 'share' && privacySignal() !== null) return 'privacy_signal';
    if (this.#consent() !== 'share') return 'consent';
    if (this.#settings.sender === undefined) return 'no_collector';
    // Without storage it is not known which windows were reported.
    const { isDurable, isStuck } = this.#settings.keeper;
    if (isStuck || !isDurable) return 'no_storage';
    const { window_start: counted, num_lists: numLists } = this.#counted();
    const start = counted ?? this.#windowStart ?? 0;
    if (isReported(reports, start)) return 'already_reported';
    return numLists === 0 ? 'nothing_observed' : null;
  }

  #buildReport(): QueuedReport {
    this.#draft ??= {
      seed: crypto.getRandomValues(new Uint8Array(32)),
      reportId: crypto.getRandomValues(new Uint8Array(16)),
    };
    const { seed, reportId } = this.#draft;
    const windowStart = this.#openWindow();
    const bytes = this.#settings.engine.buildReport(BigInt(windowStart), seed, reportId);
    const body = new TextDecoder().decode(bytes);
    const id = [...reportId].map((byte) => byte.toString(16).padStart(2, '0')).join('');
    return { reportId: id, windowStart, body, attempts: 0, notBefore: 0 };
  }

  /** Queues the report of the open window; `false` when the window was reported before. */
  async #close(): Promise<boolean> {
    return this.#outbox.add(this.#buildReport());
  }

  /** Starts counting from nothing; with `stored`, in storage too. Resolves to whether it could. */
  async #startWindow(start: number | undefined, stored: boolean): Promise<boolean> {
    const { engine } = this.#settings;
    this.#windowStart = start;
    this.#draft = undefined;
    this.#savedState = emptyStates.get(engine);
    try {
      engine.clearTelemetry();
      this.#savedState = emptyStateOf(engine);
    } catch {
      // An engine that stopped has forgotten already, and takes up the saved state when it comes back.
    }
    return !stored || this.#drop();
  }

  /** Removes the stored window. Resolves to whether it could. */
  #drop(): Promise<boolean> {
    return this.#settings.keeper.write((storage) => storage.update(this.#key, () => undefined));
  }

  /** Forgets a window that the clock has gone back behind, here and in storage. */
  async #leaveFuture(): Promise<void> {
    const forgotten = this.#startWindow(undefined, true);
    await this.#outbox.followClock(clockSeconds(), this.#settings.bundle.telemetry.windowSeconds);
    await forgotten;
  }

  /** Removes the counts of every bundle from storage, but those of `kept`. Resolves to whether it could. */
  #dropWindows(kept?: string): Promise<boolean> {
    return this.#settings.keeper.write(async (storage) => {
      for (const key of Object.keys(await storage.entries())) {
        if (key.startsWith(KEY_PREFIX) && key !== kept) await storage.update(key, () => undefined);
      }
    });
  }

  /** Adds what was counted since the last exchange to what is stored, and takes over the sum. */
  async #save(): Promise<void> {
    clearTimeout(this.#saveTimer);
    this.#saveTimer = undefined;
    const numErases = this.#numErases;
    await this.#settings.keeper.enqueue(async (storage) => {
      const { engine } = this.#settings;
      if (numErases !== this.#numErases || !this.#isTakenUp || this.#consent() === 'none' || this.#windowStart === undefined) return;
      const start = this.#windowStart;
      const snapshot = this.#finalState ?? engine.telemetryState();
      const added: StoredWindow = { windowStart: start, state: this.#savedState === undefined ? snapshot : combineStates(snapshot, this.#savedState, -1) };
      const merged = readWindow(await storage.update(this.#key, (stored) => mergeWindows(stored, added)));
      if (numErases !== this.#numErases || this.#windowStart !== start || merged?.windowStart !== start) return;
      if (this.#finalState !== undefined || sameCounts(merged.state, snapshot)) {
        this.#savedState = snapshot;
        return;
      }
      const since = combineStates(engine.telemetryState(), snapshot, -1);
      engine.restoreTelemetry(combineStates(merged.state, since, 1));
      this.#savedState = merged.state;
    });
  }

  /** One round of sends at a time. */
  #send(now?: number): Promise<FlushResult> {
    const round = this.#sending.then(() => this.#sendDue(now));
    this.#sending = round.catch(() => {});
    return round;
  }

  async #sendDue(now = clockSeconds()): Promise<FlushResult> {
    const result: FlushResult = {
      closed: false, notReportable: null, accepted: 0, duplicate: 0, dropped: [], waiting: 0, nextAttemptAt: null,
    };
    const { sender } = this.#settings;
    while (sender !== undefined && !this.#isStopped && this.#mayReport()) {
      const report = await this.#outbox.claim(now);
      // Consent may have gone meanwhile.
      if (report === undefined || !this.#mayReport()) break;
      const verdict = await sendReport(sender, report);
      const delaySeconds = verdict.kind === 'retry' ? retryDelaySeconds(report.attempts, verdict.retryAfterSeconds) : 0;
      if (verdict.kind === 'dropped') result.dropped.push(verdict.code);
      else if (verdict.kind !== 'retry') result[verdict.kind] += 1;
      // After one "later", nothing else is due any more.
      await this.#outbox.settle(report.reportId, verdict, now, now + delaySeconds);
    }
    // What was claimed too late is due again in a while.
    if (this.#settings.keeper.isStuck) this.#retryIn(STUCK_RETRY_SECONDS);
    const { outbox } = await this.#outbox.read();
    result.waiting = outbox.length;
    if (outbox.length > 0) {
      result.nextAttemptAt = Math.min(...outbox.map((report) => report.notBefore));
      this.#retryIn(result.nextAttemptAt - now);
    }
    return result;
  }

  #retryIn(seconds: number): void {
    clearTimeout(this.#timer);
    if (!this.#settings.autoSend || this.#isStopped || !this.#mayQueue()) return;
    this.#timer = setTimeout(() => this.sendSoon(), Math.min(Math.max(seconds, 1) * 1000, MAX_TIMER_MILLIS));
    letProcessEnd(this.#timer);
  }
}

/** Every engine's empty state, which never changes and costs a conversion. */
const emptyStates = new WeakMap<Engine, WireTelemetryState>();

/** Of an engine that was just cleared. */
function emptyStateOf(engine: Engine): WireTelemetryState {
  const state = emptyStates.get(engine) ?? engine.telemetryState();
  emptyStates.set(engine, state);
  return state;
}

/** A write or a report that waits is no reason for a Node process to stay. */
function letProcessEnd(timer: ReturnType<typeof setTimeout>): void {
  (timer as { unref?: () => void }).unref?.();
}

function mergeWindows(stored: Json | undefined, added: StoredWindow): Json | undefined {
  const before = readWindow(stored);
  if (before !== undefined && before.windowStart > added.windowStart) return stored;
  const same = before?.windowStart === added.windowStart ? before : undefined;
  if (same === undefined && !hasCounts(added.state)) return stored;
  const state = same === undefined ? added.state : combineStates(same.state, added.state, 1);
  return { windowStart: added.windowStart, state } as unknown as Json;
}

/** Reads the record back as far as sums need it; the engine checks the rest when it takes it over. */
function readWindow(stored: Json | undefined): StoredWindow | undefined {
  const from = (typeof stored === 'object' && stored !== null ? stored : {}) as Partial<StoredWindow>;
  const current = from.state?.current;
  const usable =
    Number.isSafeInteger(from.windowStart) && Number.isSafeInteger(current?.num_lists) &&
    Array.isArray(current?.fields) && current.fields.every((field) => Array.isArray(field?.counts));
  return usable ? (from as StoredWindow) : undefined;
}
