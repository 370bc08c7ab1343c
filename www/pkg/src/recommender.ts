/// <reference lib="esnext.disposable" preserve="true" />
import {
  boundedText, checkConsent, checkInteraction, checkLimit, checkPosition, checkRequest, list, MAX_ITEM_ID_LENGTH,
  record,
} from './arguments.js';
import { interactionFromWire, recommendationFromWire, responseFromWire } from './boundary.js';
import { effectiveConsent, privacySignal } from './consent.js';
import { readCorrection, UserCorrection } from './correction.js';
import { dropDraws } from './draws.js';
import type { Engine } from './engine.js';
import { RecommenderError, toRecommenderError } from './errors.js';
import { disposeSymbol } from './globals.js';
import { Keeper } from './keeper.js';
import { dropLastGood } from './last-good.js';
import type { OpenedRecommender, OpenedStorage } from './open.js';
import { popularList } from './popular.js';
import { Session } from './session.js';
import { FallbackStorage, notAnswering, notRemoved, type DeviceStorage } from './storage.js';
import { Telemetry } from './telemetry.js';
import type {
  BundleInfo, Consent, DeviceExport, ObserveOptions, OutcomeOptions, PrivacySignal, RankOptions, Recommendation, RecommendOptions,
  RecommendResponse, SessionInteraction, SimilarOptions,
} from './types.js';

/** As if `thrown` had not been caught, without stopping who caught it. */
function report(thrown: unknown): void {
  if (typeof reportError === 'function') return reportError(thrown);
  queueMicrotask(() => {
    throw thrown;
  });
}

/** What keeps more of the user than a recommender does. */
export interface Companion {
  /** The recommender's consent has changed. */
  consentChanged(): Promise<void>;
  /** Forgets what is kept, as the recommender does. */
  erase(): Promise<void>;
}

const CONSENTS: readonly Consent[] = ['none', 'device', 'share'];

function lower(one: Consent, other: Consent): Consent {
  return CONSENTS.indexOf(one) < CONSENTS.indexOf(other) ? one : other;
}

interface PageGlobals {
  document?: Pick<EventTarget, 'addEventListener' | 'removeEventListener'>;
}

/**
 * A loaded bundle with the current user's session. `observe` and `recommend` answer at once, from
 * memory; storage and network follow behind and can never make them fail.
 */
export abstract class RecommenderBase {
  /** What is loaded. */
  readonly bundle: BundleInfo;
  /** What is counted, and what the next report contains. */
  readonly telemetry: Telemetry;
  readonly #opened: OpenedRecommender;
  readonly #keeper: Keeper;
  readonly #session: Session;
  readonly #correction: UserCorrection;
  /** The items of the newest list. */
  #listed: string[] = [];
  /** Whether it is one of this user, who can be learned from it. */
  #isOwnList = false;
  #consent: Consent;
  /** The consent that storage follows by now: a privacy signal may have come since. */
  #applied: Consent;
  /** What a consent that was taken back should have removed, and could not. */
  #unremoved: DeviceStorage | undefined;
  /** Whether everything was removed that should have been. */
  #isRemoved = true;
  /** The last change of storage: they happen one after another. */
  #applying: Promise<void> = Promise.resolve();
  #freed = false;
  #revision = 0;
  readonly #listeners = new Set<() => void>();
  readonly #companions = new Set<Companion>();
  /** Hears no longer that another page has removed the storage. */
  #ignore: (() => void) | undefined;
  /** Whether the reports were discarded that a lower consent had to. */
  #isDiscarded = true;
  /** A page that is hidden may never be shown again; in one that is, others may have been used meanwhile. */
  readonly #save = (): void => {
    this.telemetry.saveNow();
    void this.#session.refresh();
  };

  /** Use `Recommender.load`. */
  protected constructor(opened: OpenedRecommender) {
    this.#opened = opened;
    this.#consent = opened.consent;
    this.#applied = this.consent;
    this.bundle = opened.bundle;
    this.#keeper = new Keeper(opened.storage);
    const { forgotten } = opened;
    if (forgotten !== undefined) void this.#keeper.enqueue(() => forgotten);
    this.#session = new Session(this.#keeper, opened.maxSessionLength, () => this.#changed());
    this.#correction = new UserCorrection(this.#keeper, opened.manifest, () => this.#changed());
    this.telemetry = new Telemetry({
      replaced: () => this.#changed(),
      engine: opened.engine,
      engineIsNew: opened.ownsEngine,
      bundle: opened.bundle,
      keeper: this.#keeper,
      sender: opened.sender,
      consent: () => this.#consent,
      autoSend: opened.autoSend,
    });
    (globalThis as PageGlobals).document?.addEventListener('visibilitychange', this.#save);
    this.#watch(opened);
  }

  /** @internal Takes up what earlier visits left. */
  protected async restore(): Promise<void> {
    if (this.consent === 'none') return;
    // At once: behind it in the queue is what this visit writes.
    await Promise.all([this.#session.restore(), this.#opened.personalise && this.#correction.restore(), this.telemetry.restore()]);
  }

  /** The consent in force: what the user gave, capped by {@link RecommenderBase.privacySignal}. */
  get consent(): Consent {
    return effectiveConsent(this.#consent);
  }

  /** The browser's Global Privacy Control or Do Not Track, where it is on. */
  get privacySignal(): PrivacySignal | null {
    return privacySignal();
  }

  /** The remembered interactions, oldest first. */
  get session(): SessionInteraction[] {
    return this.#session.interactions.map(interactionFromWire);
  }

  /** Counts those changes: the same number means the same recommendations for the same options. */
  get revision(): number {
    return this.#revision;
  }

  /**
   * Calls `listener` after every change of the session, when an engine that failed is back, and when consent was taken back in another tab, until
   * the returned function is called.
   * What another tab adds is noticed when this one is shown again, and at its next write. What
   * `listener` throws is nobody's: it is reported like any uncaught error, and the others are still called.
   */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Tells `companion` of every change of consent and every erasure, and waits for it, until the returned function is called. */
  attach(companion: Companion): () => void {
    this.#companions.add(companion);
    return () => this.#companions.delete(companion);
  }

  /** The low-level engine, in the wasm boundary's own terms. */
  get engine(): Engine {
    this.#checkAlive();
    return this.#opened.engine;
  }

  /** Whether the bundle knows an item. */
  hasItem(itemId: string): boolean {
    return this.engine.hasItem(boundedText(itemId, 'itemId', MAX_ITEM_ID_LENGTH));
  }

  /**
   * Remembers what the user did. Items that the bundle does not know are remembered too: a later
   * bundle may.
   *
   * @throws RecommenderError `invalid_argument` for a wrong type, and for an empty or overlong id or kind, and milliseconds.
   */
  observe(options: ObserveOptions): void {
    this.#checkAlive();
    const interaction = checkInteraction(options);
    this.#session.append(interaction);
    this.#count(() => {
      const { engine } = this.#opened;
      this.telemetry.counting(interaction.timestamp, () => engine.recordInteraction(interaction.item_id));
    });
  }

  /**
   * Recommends for the session. Data never makes it throw: what was degraded is listed in
   * `faults`, and the list may be short or empty. Where the engine itself fails, the list is the
   * popularity list under the same rules.
   *
   * @throws RecommenderError `invalid_argument` for an option of a wrong type.
   */
  recommend(options: RecommendOptions = {}): RecommendResponse {
    this.#checkAlive();
    const { sessionIdleSeconds } = this.#opened;
    const { request, faults } = checkRequest(options, (now) => this.#session.current(now, sessionIdleSeconds));
    this.#isOwnList = options.session === undefined;
    const own = this.#isOwnList ? this.#correction.current : undefined;
    const correction = options.correction === undefined ? own : readCorrection(options.correction, this.#opened.manifest);
    if (correction !== undefined) request.correction = correction;
    try {
      const wire = this.telemetry.counting(request.now, () => this.#timed((engine) => engine.recommend(request)));
      const response = responseFromWire(wire);
      this.#listed = response.recommendations.map(({ itemId }) => itemId);
      return faults.length === 0 ? response : { ...response, faults: [...faults, ...response.faults] };
    } catch (thrown) {
      const detail = toRecommenderError(thrown, 'internal', 'the engine failed').message;
      const recommendations = popularList(this.#opened.engine, this.#opened.manifest, request).map(recommendationFromWire);
      return { recommendations, faults: [...faults, { code: 'engine_failed', detail }] };
    }
  }

  /**
   * Puts items that the page already has in the order in which this user would want them: as {@link
   * RecommenderBase.recommend} of nothing else. Items that the bundle does not know, or that a rule leaves out, are missing.
   *
   * @throws RecommenderError `invalid_argument` for an argument of a wrong type.
   */
  rank(itemIds: readonly string[], options: RankOptions = {}): RecommendResponse {
    const { rules, ...rest } = record(options, 'options') as RankOptions;
    const limit = list(itemIds, 'itemIds').length;
    if (limit === 0) return { recommendations: [], faults: [] };
    return this.recommend({ ...rest, limit, rules: { excludeSeen: false, ...rules, only: itemIds } });
  }

  /**
   * The items that are most similar to one item.
   *
   * @throws RecommenderError `unknown_item`, `invalid_argument`.
   */
  similar(itemId: string, options: SimilarOptions = {}): Recommendation[] {
    this.#checkAlive();
    const id = boundedText(itemId, 'itemId', MAX_ITEM_ID_LENGTH);
    const limit = checkLimit(record(options, 'options')['limit']);
    try {
      return this.#opened.engine.similar(id, limit).map(recommendationFromWire);
    } catch (thrown) {
      throw toRecommenderError(thrown, 'internal', 'the engine failed');
    }
  }

  /**
   * Counts which position of the newest list the user chose, or that none was chosen. With an `itemId` that the newest list does not have there,
   * nothing is counted: it is of another list.
   */
  recordOutcome(options: OutcomeOptions = {}): void {
    this.#checkAlive();
    const { itemId, position: given } = record(options, 'options');
    const position = checkPosition(given);
    if (itemId !== undefined && this.#listed[(position ?? 0) - 1] !== itemId) return;
    // An outcome belongs to the window of its list, whatever time it is by now.
    this.#count(() => this.#opened.engine.recordOutcome(position));
    // The click may lead to another page, and what is gathered is written too late then.
    this.telemetry.saveNow();
    if (!this.#opened.personalise || !this.#isOwnList || position === undefined) return;
    this.#count(() => this.#correction.learn(this.#opened.engine, position));
  }

  /**
   * Changes what the user allows. `none` erases everything that is stored; anything less than
   * `share` discards reports that wait, and sessions that wait in a `SharedSessions` of this page.
   *
   * @throws RecommenderError `io` where something that is stored could not be removed: ask again.
   */
  async setConsent(consent: Consent): Promise<void> {
    this.#checkAlive();
    this.#consent = checkConsent(consent);
    const asked = this.consent;
    const followed = this.#tell((companion) => companion.consentChanged());
    this.#applying = this.#applying.catch(() => {}).then(() => this.#applyConsent(asked));
    await this.#applying;
    if (!(await followed) && asked !== 'share') throw notRemoved(this.#keeper.storage);
  }

  /**
   * Forgets the session, what was learned of the user, the histograms, every report that waits and draws for canaries, in memory and in
   * storage; and the sessions that wait in a `SharedSessions` of this page.
   *
   * @throws RecommenderError `io` where something that is stored could not be removed: ask again.
   */
  async erase(): Promise<void> {
    this.#checkAlive();
    const others = this.#tell((companion) => companion.erase());
    dropDraws();
    const done = await Promise.all([others, this.#session.erase(), this.#correction.erase(), this.telemetry.forget()]);
    if (done.includes(false)) throw notRemoved(this.#keeper.storage);
  }

  /**
   * Everything that is stored, in the form in which it is stored, and the session in memory; without consent nothing is stored.
   *
   * @throws RecommenderError `io` where it cannot be read.
   */
  async export(): Promise<DeviceExport> {
    this.#checkAlive();
    await this.settled();
    const { hash, name, version } = this.bundle;
    const stores = this.consent !== 'none';
    const records = stores ? await this.#keeper.enqueue((storage) => storage.entries()) : {};
    if (records === undefined) throw notAnswering(this.#keeper.storage);
    return {
      bundle: { hash, name, version },
      consent: this.consent,
      storage: this.#keeper.storage.description,
      session: this.session,
      records,
    };
  }

  /**
   * Resolves when everything observed so far is stored and every started send is over.
   *
   * @throws RecommenderError `io` where storage does not answer.
   */
  async settled(): Promise<void> {
    this.telemetry.saveNow();
    await this.#keeper.settled();
    if (this.#keeper.isStuck) throw notAnswering(this.#keeper.storage);
  }

  /** @internal Resolves when everything is stored, however late storage answers. */
  written(): Promise<void> {
    this.telemetry.saveNow();
    return this.#keeper.settled(true);
  }

  /** Gives the engine's memory back. What is stored stays; any other call throws afterwards. */
  free(): void {
    if (this.#freed) return;
    this.#freed = true;
    (globalThis as PageGlobals).document?.removeEventListener('visibilitychange', this.#save);
    this.#listeners.clear();
    this.#companions.clear();
    this.#ignore?.();
    this.telemetry.stop();
    const { engine, ownsEngine } = this.#opened;
    // Writes that are under way still read the engine's counts.
    void this.#keeper.settled().finally(() => {
      void this.#keeper.enqueue(async (storage) => storage.close?.());
      if (ownsEngine) engine.free();
    });
  }

  /** `using recommender = await Recommender.load(url)`. */
  [disposeSymbol](): void {
    this.free();
  }

  /**
   * Lets storage follow a consent that was asked for. Where less is allowed by now, that counts; where more is, what was to go goes all
   * the same.
   */
  async #applyConsent(asked: Consent): Promise<void> {
    const before = this.#applied;
    const after = lower(asked, this.consent);
    if (after === before && this.#isRemoved && this.#isDiscarded) return;
    if (after === 'none' || !this.#isRemoved) await this.#stopStoring();
    this.#applied = after;
    if (after !== 'none' && before === 'none') await this.#startStoring();
    if (after === 'device' && before === 'share') this.#isDiscarded = false;
    if (after === 'device' || !this.#isDiscarded) {
      const isDone = await this.telemetry.discardReports();
      if (!isDone && !this.#isDiscarded) throw notRemoved(this.#keeper.storage);
      this.#isDiscarded = true;
    }
    this.telemetry.sendSoon();
  }

  async #stopStoring(): Promise<void> {
    this.#isRemoved = false;
    try {
      await this.telemetry.forget();
    } finally {
      // In the queue, so that what is being written is there to be removed.
      await this.#keeper.enqueue(async (storage) => {
        this.#unremoved ??= storage;
        this.#moveTo(new FallbackStorage());
        await (this.#unremoved.destroy?.() ?? this.#unremoved.clear());
        this.#unremoved = undefined;
        this.#isRemoved = this.#isDiscarded = true;
      });
      dropDraws();
      await dropLastGood();
    }
    if (this.#isRemoved) return;
    this.#applied = 'none';
    throw notRemoved(this.#unremoved ?? this.#keeper.storage);
  }

  async #startStoring(): Promise<void> {
    await this.telemetry.forget();
    const opened = await this.#opened.openStorage();
    const { storage } = opened;
    if (this.#freed) return storage.close?.();
    await this.#keeper.enqueue(async () => this.#moveTo(storage));
    this.#watch(opened);
    await this.telemetry.carryLedger();
    // Taken back while it was opened.
    if (this.consent === 'none') {
      this.#applied = 'none';
      await this.#stopStoring();
    }
  }

  /** A storage that was late, and then does not work, gives way to memory that is known to forget; so does one that another page has removed. */
  #watch({ storage, late }: OpenedStorage): void {
    this.#ignore?.();
    this.#ignore = storage.onGone?.(() => this.#leave(storage));
    // While the engine was on its way.
    if (storage.isGone) this.#leave(storage);
    void late?.catch(() => this.#keeper.enqueue(async (present) => {
      if (present === storage) this.#moveTo(new FallbackStorage());
    }));
  }

  /** A consent that was taken back in another page is taken back in this one. There is nothing to remove: what is there by now is of another consent. */
  #leave(storage: DeviceStorage): void {
    if (storage !== this.#keeper.storage || this.#freed) return;
    this.#consent = 'none';
    this.#applying = this.#applying.catch(() => {}).then(async () => {
      if (storage !== this.#keeper.storage) return;
      this.#applied = 'none';
      this.#moveTo(new FallbackStorage());
      await this.telemetry.forget();
    });
    void this.#tell((companion) => companion.consentChanged());
    this.#changed();
  }

  /** What this page has in memory goes on there. */
  #moveTo(storage: DeviceStorage): void {
    this.#keeper.storage = storage;
    this.#session.saveAll();
    this.#correction.saveAll();
    this.telemetry.saveAll();
  }

  #timed<T>(work: (engine: Engine) => T): T {
    const { engine } = this.#opened;
    const start = performance.now();
    const result = work(engine);
    this.#count(() => engine.recordLatency(performance.now() - start));
    return result;
  }

  /** Telemetry may never hurt its host: what cannot be counted is not. */
  #count(count: () => void): void {
    try {
      count();
      this.telemetry.changed();
    } catch {
      // As if it had not happened.
    }
  }

  #changed(): void {
    this.#revision += 1;
    for (const listener of [...this.#listeners]) {
      try {
        listener();
      } catch (thrown) {
        report(thrown);
      }
    }
  }

  /** What a companion throws is nobody's, as with listeners. Resolves to whether none did: something may be stored still. */
  async #tell(what: (companion: Companion) => Promise<void>): Promise<boolean> {
    let isDone = true;
    await Promise.all([...this.#companions].map(async (companion) => {
      try {
        await what(companion);
      } catch (thrown) {
        isDone = false;
        report(thrown);
      }
    }));
    return isDone;
  }

  #checkAlive(): void {
    if (!this.#freed) return;
    throw new RecommenderError('invalid_argument', 'the recommender was freed', { hint: 'load it again' });
  }
}
