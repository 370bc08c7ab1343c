import type { Json } from './engine.js';
import { Keeper } from './keeper.js';
import { countDropped, type Verdict } from './outbox.js';
import { nextDayOf, oneMoreRequest, type Requests } from './sender.js';
import { FallbackStorage, MemoryStorage, notAnswering, type DeviceStorage } from './storage.js';
import type { ReportCounters } from './types.js';

const KEY = 'sessions';
/** Most sessions that wait; the oldest give way, and are counted as dropped. */
const MAX_WAITING = 16;
/** How long a claimed session is left to the tab that sends it: longer than a send takes. */
const CLAIM_SECONDS = 60;

/** A session that waits for an acknowledgement. */
export interface WaitingSession {
  sessionId: string;
  /** Exactly what is sent. */
  body: string;
  attempts: number;
  /** Unix seconds before which it is not sent. */
  notBefore: number;
}

/** One record, so that "this session was queued" and "it waits" are one atomic write. */
export interface Sharing {
  /** Unix seconds: what was done up to then, and what goes on from it without a pause, is not queued (again). */
  barrier: number;
  /** Unix seconds of the newest interaction that any tab has seen. */
  newest: number;
  waiting: WaitingSession[];
  counters: ReportCounters;
  /** So that no storm of failures becomes one of requests. */
  requests: Requests;
}

/**
 * The durable queue of shared sessions. It is there while the user's consent is: a tab that finds it gone knows that
 * the consent was taken back in another.
 */
export class SessionOutbox {
  readonly #keeper: Keeper;
  readonly #gone: () => void;

  /** Nothing is opened before {@link SessionOutbox.open}; `gone` is called when another tab has removed the queue. */
  constructor(storage: DeviceStorage | undefined, gone: () => void) {
    this.#keeper = new Keeper(storage ?? new FallbackStorage());
    this.#gone = gone;
  }

  /** Whether what waits is still there at the next visit. */
  get isDurable(): boolean {
    return this.#keeper.isDurable;
  }

  /** Whether it answers. */
  get isAnswering(): boolean {
    return !this.#keeper.isStuck;
  }

  /** Where it is kept. */
  get description(): string {
    return this.#keeper.storage.description;
  }

  /** Takes up what an earlier visit left, or begins anew with `barrier`. */
  async open(barrier: number): Promise<void> {
    await this.#keeper.enqueue(async (storage) => {
      try {
        await storage.update(KEY, (stored) => (readSharing(stored) === undefined ? (begun(barrier) as unknown as Json) : stored));
      } catch {
        this.#keeper.storage = new FallbackStorage();
      }
    });
  }

  /** The current record. */
  async read(): Promise<Sharing | undefined> {
    return readSharing(await this.#keeper.enqueue((storage) => storage.get(KEY)));
  }

  /**
   * Replaces the record in one atomic write, and resolves to whether it is stored. Writes nothing where `change` returns what it was given, or
   * the queue is gone.
   */
  async change(change: (sharing: Sharing) => Sharing): Promise<boolean> {
    // One that is gone finds that out.
    if (!this.isDurable && !this.#keeper.storage.isGone) return false;
    const isWritten = await this.#keeper.enqueue(async (storage) => {
      let isGone = false;
      await storage.update(KEY, (stored) => {
        const before = readSharing(stored);
        isGone = before === undefined;
        if (before === undefined) return undefined;
        const after = change(before);
        return after === before ? stored : (after as unknown as Json);
      });
      if (isGone && storage === this.#keeper.storage) this.#gone();
      return !isGone;
    });
    return isWritten ?? false;
  }

  /** Takes the session that has been due for the longest, so that no other tab sends it at the same time. Where the day has had its requests, all wait for the next. */
  async claim(now: number): Promise<WaitingSession | undefined> {
    let claimed: WaitingSession | undefined;
    const isWritten = await this.change((sharing) => {
      const due = sharing.waiting.filter(({ notBefore }) => notBefore <= now);
      claimed = due.sort((one, other) => one.notBefore - other.notBefore)[0];
      if (claimed === undefined) return sharing;
      const requests = oneMoreRequest(sharing.requests, now);
      if (requests === undefined) {
        claimed = undefined;
        return replaced(sharing, ({ notBefore }) => notBefore <= now, { notBefore: nextDayOf(now) });
      }
      const { sessionId, attempts } = claimed;
      return replaced({ ...sharing, requests }, (one) => one.sessionId === sessionId, { attempts: attempts + 1, notBefore: now + CLAIM_SECONDS });
    });
    // What could not be claimed would be sent again and again.
    return isWritten ? claimed : undefined;
  }

  /** Applies the verdict on one session. After "later", everything that is due waits until `notBefore` without asking again. */
  async settle(sessionId: string, verdict: Verdict, now: number, notBefore: number): Promise<void> {
    await this.change((sharing) => {
      const waiting = sharing.waiting.filter((one) => one.sessionId !== sessionId);
      // Erased while it was on its way: nothing is left to note.
      if (waiting.length === sharing.waiting.length) return sharing;
      if (verdict.kind === 'retry') return replaced(sharing, (one) => one.sessionId === sessionId || one.notBefore <= now, { notBefore });
      if (verdict.kind === 'dropped') return { ...sharing, waiting, counters: countDropped(sharing.counters, verdict.code, 1) };
      return { ...sharing, waiting, counters: { ...sharing.counters, [verdict.kind]: sharing.counters[verdict.kind] + 1 } };
    });
  }

  /** Removes everything, after the writes that are under way; later ones find nothing. Resolves to whether it could. */
  destroy(): Promise<boolean> {
    return this.#keeper.write(async (storage) => {
      await (storage.destroy?.() ?? storage.clear());
      this.#keeper.storage = new MemoryStorage();
    });
  }

  /** Resolves when everything that was begun is over. */
  async settled(): Promise<void> {
    await this.#keeper.settled();
    if (this.#keeper.isStuck) throw notAnswering(this);
  }

  /** Everything that is stored. */
  async entries(): Promise<Record<string, Json>> {
    const entries = await this.#keeper.enqueue((storage) => storage.entries());
    if (entries === undefined) throw notAnswering(this);
    return entries;
  }

  /** Gives connections back after the writes that are under way. */
  close(): void {
    void this.#keeper.enqueue(async (storage) => storage.close?.());
  }
}

/** A record without anything in it. */
export function begun(barrier: number): Sharing {
  return { barrier, newest: barrier, waiting: [], counters: { accepted: 0, duplicate: 0, dropped: {} }, requests: { day: 0, count: 0 } };
}

/** Puts sessions behind those that wait. */
export function withWaiting(sharing: Sharing, added: readonly WaitingSession[]): Sharing {
  const all = [...sharing.waiting, ...added];
  const waiting = all.slice(-MAX_WAITING);
  return { ...sharing, waiting, counters: countDropped(sharing.counters, 'overloaded', all.length - waiting.length) };
}

function replaced(sharing: Sharing, which: (one: WaitingSession) => boolean, by: Partial<WaitingSession>): Sharing {
  return { ...sharing, waiting: sharing.waiting.map((one) => (which(one) ? { ...one, ...by } : one)) };
}

/** Reads the record back; a damaged one counts as absent. */
function readSharing(stored: Json | undefined): Sharing | undefined {
  const { barrier, newest, waiting, counters, requests } = (stored ?? {}) as unknown as Partial<Sharing>;
  if (!Number.isFinite(barrier) || !Number.isFinite(newest) || !Array.isArray(waiting)) return undefined;
  const { accepted = 0, duplicate = 0, dropped = {} } = counters ?? {};
  const { day = 0, count = 0 } = requests ?? {};
  return { barrier: barrier!, newest: newest!, waiting: waiting.filter(isWaiting), counters: { accepted, duplicate, dropped }, requests: { day, count } };
}

function isWaiting(value: unknown): value is WaitingSession {
  const { sessionId, body, attempts, notBefore } = (value ?? {}) as Record<string, unknown>;
  return typeof sessionId === 'string' && typeof body === 'string' && Number.isFinite(attempts) && Number.isFinite(notBefore);
}
