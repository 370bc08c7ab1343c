/**
 * Shares the sessions of users who chose so, as training data: a consent of its own, above that to randomised reports. What is shared is not
 * noised; `docs/formats/shared-session.md` says what that means. No other entry of the package loads this code.
 */
import { clockSeconds, record, timeOf, wrongType } from './arguments.js';
import { RecommenderError } from './errors.js';
import { browser } from './platforms/browser.js';
import type { RecommenderBase } from './recommender.js';
import { reportsUrl, retryDelaySeconds, sendReport, type Sender } from './sender.js';
import { begun, SessionOutbox, withWaiting, type Sharing, type WaitingSession } from './session-outbox.js';
import { dayOf, encodeSharedSession, isShareable } from './shared-session.js';
import type { DeviceStorage } from './storage.js';
import type { Fetch, PrivacySignal, ReportCounters, SessionInteraction } from './types.js';

export { encodeSharedSession, type SharedInteraction, type SharedSession } from './shared-session.js';
export type { WaitingSession } from './session-outbox.js';

/** Its engines are not used: a recommender has one already. */
const PLATFORM = browser({});
const DEFAULT_STORAGE_NAME = 'sanderling-sessions';
const DEFAULT_IDLE_SECONDS = 1800;
/** A whole day: whatever time a session ended at, each time of day is as likely for it to be sent. */
const DEFAULT_MAX_DELAY_SECONDS = 86_400;
const DEFAULT_SEND_TIMEOUT_SECONDS = 10;
const MAX_CLOCK_ERROR_SECONDS = 86_400;
/** A single item is no sequence to train on. */
const MIN_INTERACTIONS = 2;
/** How long changes of the session are gathered before they are looked at. */
const GATHER_MILLIS = 500;
/** Nobody tells of a privacy signal that is switched on, so it is looked at this often. */
const CHECK_MILLIS = 30_000;

/**
 * What the user allowed beside the recommender's own consent.
 * - `none`: no session is stored for sharing or sent.
 * - `sessions`: sessions that begin from now on are shared when they have ended, while the recommender's consent is `share`.
 */
export type SharingConsent = 'none' | 'sessions';

/** The part of a recommender that is used: that of every entry but `Recommender.inWorker`. */
export type SharingRecommender = Pick<RecommenderBase, 'session' | 'onChange' | 'attach' | 'consent' | 'privacySignal' | 'hasItem' | 'bundle'>;

export interface SharingOptions {
  /** Base URL of a collector that takes sessions. */
  collectorUrl: string | URL;
  /** What the user chose; `none` by default, which deletes what an earlier consent had left. */
  consent?: SharingConsent | undefined;
  /** A longer pause ends a session; 1,800 by default. What the recommender was loaded with, where that is finite. */
  sessionIdleSeconds?: number | undefined;
  /** A session waits for a random time up to this before it is sent; a day by default, 0 for none. */
  maxDelaySeconds?: number | undefined;
  /** Where sessions wait; IndexedDB where it works. Without anything durable nothing is shared. */
  storage?: DeviceStorage | undefined;
  /** Name of the IndexedDB database, `sanderling-sessions` by default; another one for each `storageName` of recommenders. */
  storageName?: string | undefined;
  /** Used instead of the global `fetch`. */
  fetch?: Fetch | undefined;
  /** Whether ended sessions are queued and sent without a call of `flush`; true by default. */
  autoSend?: boolean | undefined;
  /** How long one send may take, 10 by default. */
  sendTimeoutSeconds?: number | undefined;
}

/** Why nothing is shared. */
export type NotShared =
  | 'consent'
  /** The recommender's own consent is less than `share`. */
  | 'recommender_consent'
  | 'privacy_signal'
  /** Nothing durable works here, so a session that was sent could be sent again. */
  | 'no_storage';

/** Everything about shared sessions that a privacy page shows. */
export interface SharingPreview {
  /** The consent in force. */
  consent: SharingConsent;
  privacySignal: PrivacySignal | null;
  /** Why nothing is shared; `null` where sessions are. */
  notShared: NotShared | null;
  /** What waits, next first: `body` is exactly what is sent. */
  waiting: WaitingSession[];
  counters: ReportCounters;
}

export interface SharingFlushOptions {
  /** Unix seconds; the device's clock by default. */
  now?: number | undefined;
}

export interface SharingFlushResult {
  /** Sessions that had ended and were queued by this call. */
  queued: number;
  notShared: NotShared | null;
  accepted: number;
  duplicate: number;
  /** Codes of sessions that the collector refused for good. */
  dropped: string[];
  /** Sessions that still wait. */
  waiting: number;
  /** Unix seconds of the next attempt, when some wait. */
  nextAttemptAt: number | null;
}

/** Everything that is kept for sharing. */
export interface SharingExport {
  consent: SharingConsent;
  /** Where it is kept. */
  storage: string;
  /** Every stored record, by key. */
  records: Record<string, unknown>;
}

interface Settings {
  sender: Sender;
  storage: DeviceStorage | undefined;
  idleSeconds: number;
  maxDelaySeconds: number;
  autoSend: boolean;
}

/** Shares the sessions of one recommender; {@link SharedSessions.start} makes it. */
export class SharedSessions {
  readonly #recommender: SharingRecommender;
  readonly #settings: Settings;
  readonly #forget: () => void;
  /** What the user chose. */
  #given: SharingConsent;
  /** There while the consent in force allows it. */
  #outbox: SessionOutbox | undefined;
  /** What a consent that was taken back should have removed, and could not. */
  #unremoved: SessionOutbox | undefined;
  /** The last opening or removal of an outbox: they happen one after another. */
  #changing: Promise<void> = Promise.resolve();
  #rounds: Promise<unknown> = Promise.resolve();
  #gathering: ReturnType<typeof setTimeout> | undefined;
  #checking: ReturnType<typeof setTimeout> | undefined;
  /** Unix seconds of the next thing to do. */
  #dueAt = 0;
  #isStopped = false;

  private constructor(recommender: SharingRecommender, settings: Settings, given: SharingConsent) {
    this.#recommender = recommender;
    this.#settings = settings;
    this.#given = given;
    const leave = [
      recommender.onChange(() => this.#sessionChanged()),
      recommender.attach({ consentChanged: () => this.#followed(), erase: () => this.erase() }),
    ];
    this.#forget = () => leave.forEach((from) => from());
  }

  /**
   * Begins to share what the user of `recommender` does, where `consent` says so. Without consent, what an earlier one had left is deleted.
   *
   * @throws RecommenderError `invalid_argument` for an argument of a wrong type or out of range.
   */
  static async start(recommender: SharingRecommender, options: SharingOptions): Promise<SharedSessions> {
    const { settings, consent } = readOptions(options);
    const sharing = new SharedSessions(checkRecommender(recommender), settings, consent);
    if (sharing.consent === 'none') sharing.#unremoved = sharing.#newOutbox();
    await sharing.#follow();
    if (settings.autoSend) sharing.#check();
    return sharing;
  }

  /** The consent in force: `sessions` only while the recommender's is `share`, which a privacy signal prevents. */
  get consent(): SharingConsent {
    return this.#notAllowed() === null ? 'sessions' : 'none';
  }

  /**
   * Changes what the user allows. `none` deletes what waits; with `sessions`, those that begin from now on are shared.
   *
   * @throws RecommenderError `io` where what waits cannot be deleted, which is tried again with the next call.
   */
  async setConsent(consent: SharingConsent): Promise<void> {
    this.#checkAlive();
    this.#given = checkConsent(consent);
    await this.#follow();
    this.#checkRemoved(this.#unremoved);
  }

  /** Shows exactly what is sent next, after it has queued what ended. */
  async preview(options: SharingFlushOptions = {}): Promise<SharingPreview> {
    this.#checkAlive();
    await this.#collect(nowOf(options));
    const { waiting, counters } = (await this.#outbox?.read()) ?? begun(0);
    return {
      consent: this.consent,
      privacySignal: this.#recommender.privacySignal,
      notShared: this.#notShared(),
      waiting: waiting.sort((one, other) => one.notBefore - other.notBefore),
      counters,
    };
  }

  /** Queues the sessions that have ended and sends those whose delay is over. Never rejects for a collector that is away. */
  async flush(options: SharingFlushOptions = {}): Promise<SharingFlushResult> {
    this.#checkAlive();
    return this.#round(nowOf(options));
  }

  /**
   * Deletes what waits. What was done until now is not shared any more.
   *
   * @throws RecommenderError `io` where what waits cannot be deleted: ask again.
   */
  async erase(): Promise<void> {
    this.#checkAlive();
    // Before anything is waited for: the recommender may be forgetting its session, too.
    const barrier = this.#barrierNow();
    await this.#follow();
    this.#checkRemoved(this.#unremoved);
    const outbox = this.#outbox;
    const isWritten = await outbox?.change(({ requests, ...sharing }) => ({ ...begun(Math.max(sharing.barrier, barrier)), requests }));
    // One that is gone by now has nothing in it.
    if (isWritten === false && outbox?.isDurable && outbox === this.#outbox) this.#checkRemoved(outbox);
  }

  /**
   * Everything that is stored for sharing, in the form in which it is stored; without consent that is nothing.
   *
   * @throws RecommenderError `io` where it cannot be read.
   */
  async export(): Promise<SharingExport> {
    this.#checkAlive();
    await this.#follow();
    const outbox = this.#outbox;
    return { consent: this.consent, storage: outbox?.description ?? 'none', records: (await outbox?.entries()) ?? {} };
  }

  /**
   * Resolves when every write and send that was begun is over.
   *
   * @throws RecommenderError `io` where storage does not answer.
   */
  async settled(): Promise<void> {
    await this.#rounds;
    await this.#changing;
    await this.#outbox?.settled();
  }

  /** Ends it in this page; what waits stays for the next visit. Any other call throws afterwards. */
  stop(): void {
    if (this.#isStopped) return;
    this.#isStopped = true;
    this.#forget();
    clearTimeout(this.#gathering);
    clearTimeout(this.#checking);
    this.#outbox?.close();
  }

  #notAllowed(): NotShared | null {
    if (this.#given === 'none') return 'consent';
    if (this.#recommender.privacySignal !== null) return 'privacy_signal';
    return this.#recommender.consent === 'share' ? null : 'recommender_consent';
  }

  #notShared(): NotShared | null {
    return this.#notAllowed() ?? (this.#outbox?.isDurable && this.#outbox.isAnswering ? null : 'no_storage');
  }

  /** Follows the consent in force: begins an outbox where it is allowed, and removes it where it no longer is. */
  #follow(): Promise<void> {
    const isAllowed = this.consent === 'sessions';
    if (!isAllowed && this.#outbox !== undefined) {
      this.#unremoved = this.#outbox;
      this.#outbox = undefined;
    }
    const removed = this.#unremoved;
    if (removed !== undefined) {
      this.#changing = this.#changing.then(async () => {
        if ((await removed.destroy()) && this.#unremoved === removed) this.#unremoved = undefined;
      });
    }
    if (isAllowed && this.#outbox === undefined) {
      // Now, and not when it is open: what was done before the consent is not part of it.
      const barrier = this.#barrierNow();
      this.#changing = this.#changing.then(() => this.#begin(barrier));
    }
    return this.#changing;
  }

  /** What was to go goes first: a removal that is late would take what is written from now on. */
  async #begin(barrier: number): Promise<void> {
    if (this.#outbox !== undefined || this.#unremoved !== undefined || this.#isStopped || this.consent === 'none') return;
    this.#outbox = this.#newOutbox();
    await this.#outbox.open(barrier);
  }

  async #followed(): Promise<void> {
    await this.#follow();
    this.#checkRemoved(this.#unremoved);
  }

  #checkRemoved(unremoved: SessionOutbox | undefined): void {
    if (unremoved === undefined) return;
    throw new RecommenderError('io', 'sessions that wait could not be removed', { found: unremoved.description, hint: 'ask again' });
  }

  #newOutbox(): SessionOutbox {
    const outbox: SessionOutbox = new SessionOutbox(this.#settings.storage, () => {
      // Taken back in another tab, which this one must not undo.
      if (this.#outbox !== outbox) return;
      this.#given = 'none';
      void this.#follow();
    });
    return outbox;
  }

  /** What was done until now is not shared, nor is the session that may go on from it. */
  #barrierNow(): number {
    const times = believable(this.#recommender.session, clockSeconds()).map(({ timestamp }) => timestamp);
    return Math.max(clockSeconds() - this.#settings.idleSeconds - 1, ...times);
  }

  /** Queues what has ended, in one atomic write with the note that it was queued. */
  async #collect(now: number): Promise<number> {
    await this.#follow();
    let numQueued = 0;
    const isWritten = await this.#outbox?.change((sharing) => {
      const { session, bundle } = this.#recommender;
      const { ended, ...seen } = takeEnded(sharing, session, this.#settings.idleSeconds, now);
      const added = ended.flatMap((interactions) => this.#waiting(interactions, bundle.hash, now));
      numQueued = added.length;
      const isSame = added.length === 0 && seen.barrier === sharing.barrier && seen.newest === sharing.newest;
      return isSame ? sharing : withWaiting({ ...sharing, ...seen }, added);
    });
    return isWritten ? numQueued : 0;
  }

  /** A session as it will be sent; none where too little of it can be shared. */
  #waiting(session: readonly SessionInteraction[], bundleHash: string, now: number): WaitingSession[] {
    const interactions = session.filter((one) => isShareable(one) && this.#recommender.hasItem(one.itemId));
    if (interactions.length < MIN_INTERACTIONS) return [];
    const sessionId = [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, '0')).join('');
    const body = encodeSharedSession({ sessionId, bundleHash, day: dayOf(endOf(session)), interactions });
    const delay = Math.floor(this.#settings.maxDelaySeconds * randomShare());
    return [{ sessionId, body, attempts: 0, notBefore: now + delay }];
  }

  /** One round of sends at a time. */
  #round(now: number): Promise<SharingFlushResult> {
    const round = this.#rounds.then(() => this.#sendDue(now));
    this.#rounds = round.catch(() => {});
    return round;
  }

  async #sendDue(now: number): Promise<SharingFlushResult> {
    const result: SharingFlushResult = {
      queued: await this.#collect(now), notShared: this.#notShared(), accepted: 0, duplicate: 0, dropped: [], waiting: 0, nextAttemptAt: null,
    };
    const outbox = this.#outbox;
    for (;;) {
      const session = await outbox?.claim(now);
      if (session === undefined || outbox === undefined || this.consent === 'none' || this.#isStopped) break;
      const { sessionId, body, attempts } = session;
      const verdict = await sendReport(this.#settings.sender, { reportId: sessionId, body }, 'session_id');
      const delay = verdict.kind === 'retry' ? retryDelaySeconds(attempts, verdict.retryAfterSeconds) : 0;
      if (verdict.kind === 'dropped') result.dropped.push(verdict.code);
      else if (verdict.kind !== 'retry') result[verdict.kind] += 1;
      // After one "later", nothing else is due any more.
      await outbox.settle(sessionId, verdict, now, now + delay);
    }
    await this.#follow();
    const sharing = await this.#outbox?.read();
    result.waiting = sharing?.waiting.length ?? 0;
    if (result.waiting > 0) result.nextAttemptAt = Math.min(...sharing!.waiting.map(({ notBefore }) => notBefore));
    this.#dueAt = Math.min(result.nextAttemptAt ?? Infinity, this.#nextEnd(sharing));
    return result;
  }

  /** When the newest session will have ended, unless it goes on. */
  #nextEnd(sharing: Sharing | undefined): number {
    const { session } = this.#recommender;
    const end = session.length === 0 ? 0 : endOf(session);
    return sharing === undefined || end <= sharing.barrier ? Infinity : end + this.#settings.idleSeconds + 1;
  }

  /** What another tab must know, and what ended before the pause that is over now, is looked at soon. */
  #sessionChanged(): void {
    void this.#follow();
    if (this.#outbox === undefined || this.#gathering !== undefined) return;
    this.#gathering = setTimeout(() => {
      this.#gathering = undefined;
      this.#dueAt = 0;
      void this.#collect(clockSeconds()).catch(() => {});
    }, GATHER_MILLIS);
    letProcessEnd(this.#gathering);
  }

  /** Follows the consent, does what is due, and comes back. */
  #check(): void {
    void this.#follow();
    const now = clockSeconds();
    const done = now >= this.#dueAt ? this.#round(now).catch(() => {}) : Promise.resolve();
    void done.then(() => {
      if (this.#isStopped) return;
      const wait = (this.#dueAt - clockSeconds()) * 1000;
      // What is due already could not be done, and is no reason to hurry.
      this.#checking = setTimeout(() => this.#check(), wait > 0 ? Math.min(wait, CHECK_MILLIS) : CHECK_MILLIS);
      letProcessEnd(this.#checking);
    });
  }

  #checkAlive(): void {
    if (!this.#isStopped) return;
    throw new RecommenderError('invalid_argument', 'sharing was stopped', { hint: 'start it again' });
  }
}

/**
 * Which sessions have ended and may be shared, and what the record then says. A session that touches the barrier is left out whole, and moves
 * it. Where another tab has seen more than this one, the newest session is left to it, or to the next visit.
 */
function takeEnded(
  { barrier, newest }: Sharing, interactions: readonly SessionInteraction[], idleSeconds: number, now: number,
): { ended: SessionInteraction[][]; barrier: number; newest: number } {
  const lived = believable(interactions, now);
  const sessions = sessionsOf(lived, idleSeconds);
  const seen = sessions.length === 0 ? -Infinity : endOf(lived);
  const ended: SessionInteraction[][] = [];
  for (const session of sessions) {
    const end = endOf(session);
    const begin = Math.min(...session.map(({ timestamp }) => timestamp));
    const isFresh = begin - barrier > idleSeconds;
    // A time ahead of the clock was no interaction, and keeps nothing waiting.
    const isStale = seen < newest && newest <= now && session === sessions.at(-1);
    if (isFresh && (now - end <= idleSeconds || isStale)) continue;
    if (isFresh) ended.push(session);
    barrier = Math.max(barrier, end);
  }
  return { ended, barrier, newest: Math.max(newest, seen) };
}

/** Without what was done in a future that no clock error of a day explains: it would hold up everything until then. */
function believable(interactions: readonly SessionInteraction[], now: number): readonly SessionInteraction[] {
  return interactions.filter(({ timestamp }) => timestamp <= now + MAX_CLOCK_ERROR_SECONDS);
}

/** Divides what is remembered where the recommender does: at each pause of more than `idleSeconds`. */
function sessionsOf(interactions: readonly SessionInteraction[], idleSeconds: number): SessionInteraction[][] {
  const sessions: SessionInteraction[][] = [];
  interactions.forEach((interaction, at) => {
    const before = interactions[at - 1];
    if (before === undefined || interaction.timestamp - before.timestamp > idleSeconds) sessions.push([]);
    sessions.at(-1)!.push(interaction);
  });
  return sessions;
}

function endOf(session: readonly SessionInteraction[]): number {
  return Math.max(...session.map(({ timestamp }) => timestamp));
}

/** From 0, under 1: not to be guessed from another. */
function randomShare(): number {
  return crypto.getRandomValues(new Uint32Array(1))[0]! / 2 ** 32;
}

function nowOf(options: SharingFlushOptions): number {
  return timeOf(record(options, 'options')['now'], 'now');
}

function checkConsent(value: unknown): SharingConsent {
  if (value === 'none' || value === 'sessions') return value;
  throw wrongType('consent', '"none" or "sessions"', value);
}

function checkRecommender(value: SharingRecommender): SharingRecommender {
  const { onChange, attach, hasItem, session } = record(value, 'recommender');
  if (typeof onChange === 'function' && typeof attach === 'function' && typeof hasItem === 'function' && Array.isArray(session)) return value;
  throw wrongType('recommender', 'a recommender of this thread', value);
}

function readOptions(given: SharingOptions): { settings: Settings; consent: SharingConsent } {
  const options = record(given, 'options') as unknown as SharingOptions;
  const storage = options.storage ?? PLATFORM.openStorage(options.storageName ?? DEFAULT_STORAGE_NAME);
  const settings = {
    sender: senderOf(options),
    storage,
    idleSeconds: checkSeconds(options.sessionIdleSeconds ?? DEFAULT_IDLE_SECONDS, 'sessionIdleSeconds', 1),
    maxDelaySeconds: checkSeconds(options.maxDelaySeconds ?? DEFAULT_MAX_DELAY_SECONDS, 'maxDelaySeconds', 0),
    autoSend: options.autoSend ?? true,
  };
  return { settings, consent: checkConsent(options.consent ?? 'none') };
}

/** A finite number of seconds. Without an end to pauses no session would end. */
function checkSeconds(value: unknown, name: string, least: number): number {
  if (typeof value !== 'number') throw wrongType(name, 'a number', value);
  if (value >= least && value < Infinity) return value;
  throw new RecommenderError('invalid_argument', `${name} is out of range`, { expected: `a finite number of at least ${least}`, found: String(value) });
}

function senderOf({ collectorUrl, fetch = PLATFORM.fetch, sendTimeoutSeconds = DEFAULT_SEND_TIMEOUT_SECONDS }: SharingOptions): Sender {
  try {
    const reports = reportsUrl(collectorUrl, (globalThis as { location?: { href: string } }).location?.href);
    const url = reports.replace(/reports$/, 'sessions');
    return { url, fetch, request: PLATFORM.reportRequest, timeoutSeconds: sendTimeoutSeconds };
  } catch (thrown) {
    throw new RecommenderError('invalid_argument', 'collectorUrl is not a URL', { found: String(collectorUrl) }, thrown);
  }
}

/** A session that waits is no reason for a Node process to stay. */
function letProcessEnd(timer: ReturnType<typeof setTimeout>): void {
  (timer as { unref?: () => void }).unref?.();
}
