import { list, text, wrongType } from './arguments.js';
import type {
  Engine, Json, WireManifest, WireRecommendation, WireRequest, WireResponse, WireTelemetryState,
} from './engine.js';
import { isErrorCode, RecommenderError } from './errors.js';
import type { BornEngine, Instance } from './runtime.js';

/** Shortest time between two attempts to open the bundle again. */
const REOPEN_PAUSE_MILLIS = 10_000;
/** An attempt that takes longer is not waited for: hosts of edge workers drop what a request began when it ends. */
const REOPEN_TIMEOUT_MILLIS = 60_000;

/**
 * An engine that outlives the wasm instance it runs in. What a trap leaves in an instance's memory cannot be trusted, so
 * the instance is discarded with all its engines, and each of them opens its bundle again in a new one. Until
 * then, and for good after the last instance, every method throws `inference_failed`.
 */
export class LiveEngine implements Engine {
  readonly #instance: Instance;
  readonly #open: () => Promise<BornEngine>;
  readonly #manifest: WireManifest;
  readonly #bundleHash: string;
  #engine: Engine | undefined;
  #reopening: Promise<void> | undefined;
  #lastAttempt = -Infinity;
  #isFreed = false;
  readonly #leave: () => void;
  #onReplaced: { restore: (engine: Engine) => void; done: () => void } | undefined;

  /** Of an `engine` in the present `instance`; `open` makes it anew, in that one as it is by then. */
  constructor(engine: Engine, instance: Instance, open: () => Promise<BornEngine>) {
    this.#engine = engine;
    this.#instance = instance;
    this.#open = open;
    this.#manifest = engine.manifest();
    this.#bundleHash = engine.bundleHash();
    this.#leave = instance.onDiscarded(this);
  }

  /** @internal The instance is gone, with the engine in it. */
  discarded(): void {
    this.#engine = undefined;
    void this.#reopen();
  }

  /** `restore` gets every engine that takes the place of one that failed, before anybody else uses it; then `done` is called. */
  onReplaced(restore: (engine: Engine) => void, done: () => void): void {
    this.#onReplaced = { restore, done };
  }

  get state(): 'running' | 'starting' | 'stopped' | 'over' {
    if (this.#engine !== undefined) return 'running';
    if (this.#isFreed || this.#instance.isDisabled) return 'over';
    return this.#reopening === undefined ? 'stopped' : 'starting';
  }

  /** Resolves when no attempt to open the bundle again is under way; a host may have dropped one, which never ends. */
  async settled(): Promise<void> {
    await this.#reopening;
  }

  manifest(): WireManifest {
    return structuredClone(this.#manifest);
  }

  bundleHash(): string {
    return this.#bundleHash;
  }

  hasItem(itemId: string): boolean {
    const id = text(itemId, 'itemId');
    return this.#run((engine) => engine.hasItem(id));
  }

  len(): number {
    return this.#manifest.shapes.num_items;
  }

  recommend(request: WireRequest): WireResponse {
    return this.#run((engine) => engine.recommend(request));
  }

  rows(itemIds: readonly string[]): Uint32Array {
    list(itemIds, 'itemIds');
    return this.#run((engine) => engine.rows(itemIds));
  }

  itemId(row: number): string | undefined {
    return this.#run((engine) => engine.itemId(row));
  }

  retrieve(session: Uint32Array, limit: number): [rows: Uint32Array, scores: Float32Array] {
    if (!(session instanceof Uint32Array)) throw wrongType('session', 'a Uint32Array', session);
    return this.#run((engine) => engine.retrieve(session, limit));
  }

  rank(features: Float32Array): Float32Array {
    if (!(features instanceof Float32Array)) throw wrongType('features', 'a Float32Array', features);
    return this.#run((engine) => engine.rank(features));
  }

  similar(itemId: string, limit: number): WireRecommendation[] {
    const id = text(itemId, 'itemId');
    return this.#run((engine) => engine.similar(id, limit));
  }

  recordInteraction(itemId: string): void {
    const id = text(itemId, 'itemId');
    this.#run((engine) => engine.recordInteraction(id));
  }

  recordOutcome(position?: number): void {
    this.#run((engine) => engine.recordOutcome(position));
  }

  recordLatency(milliseconds: number): void {
    this.#run((engine) => engine.recordLatency(milliseconds));
  }

  learn(learned: Float32Array, position: number): Float32Array {
    if (!(learned instanceof Float32Array)) throw wrongType('learned', 'a Float32Array', learned);
    return this.#run((engine) => engine.learn(learned, position));
  }

  telemetryState(): WireTelemetryState {
    return this.#run((engine) => engine.telemetryState());
  }

  restoreTelemetry(state: WireTelemetryState): void {
    this.#run((engine) => engine.restoreTelemetry(state));
  }

  clearTelemetry(): void {
    this.#run((engine) => engine.clearTelemetry());
  }

  buildReport(windowStart: bigint, seed: Uint8Array, reportId: Uint8Array): Uint8Array {
    for (const [name, bytes] of [['seed', seed], ['reportId', reportId]] as const) {
      if (!(bytes instanceof Uint8Array)) throw wrongType(name, 'a Uint8Array', bytes);
    }
    return this.#run((engine) => engine.buildReport(windowStart, seed, reportId));
  }

  /** @internal */
  runOperation(operation: Json): Json {
    return this.#run((engine) => {
      if (engine.runOperation === undefined) throw new RecommenderError('not_found', 'only builds for tests have operations');
      return engine.runOperation(operation);
    });
  }

  free(): void {
    if (this.#isFreed) return;
    this.#isFreed = true;
    this.#leave();
    this.#onReplaced = undefined;
    this.#engine?.free();
    this.#engine = undefined;
  }

  #run<T>(work: (engine: Engine) => T): T {
    if (this.#engine === undefined) throw this.#unavailable();
    try {
      return work(this.#engine);
    } catch (thrown) {
      // What the engine means to throw carries a code; anything else stopped it in the middle.
      if (isErrorCode((thrown as { code?: unknown } | null)?.code)) throw thrown;
      this.#instance.discard();
      const { message } = thrown as Error;
      throw new RecommenderError('inference_failed', 'the engine stopped in the middle of a call', {
        found: String(message),
        hint: this.#instance.isDisabled ? 'reload the page' : 'call again later: the bundle is opened again',
      }, thrown);
    }
  }

  #unavailable(): RecommenderError {
    if (this.#isFreed) return new RecommenderError('invalid_argument', 'the engine was freed', { hint: 'load it again' });
    if (this.#instance.isDisabled) return this.#instance.exhausted();
    void this.#reopen();
    return new RecommenderError('inference_failed', 'the engine stopped and is being started again');
  }

  #reopen(): Promise<void> {
    const now = performance.now();
    const pause = this.#reopening === undefined ? REOPEN_PAUSE_MILLIS : REOPEN_TIMEOUT_MILLIS;
    if (this.#instance.isDisabled || now - this.#lastAttempt < pause) return this.#reopening ?? Promise.resolve();
    this.#lastAttempt = now;
    const attempt = this.#replace().finally(() => {
      if (this.#reopening === attempt) this.#reopening = undefined;
    });
    this.#reopening = attempt;
    return attempt;
  }

  /** Never rejects: the next call after a pause tries again. */
  async #replace(): Promise<void> {
    try {
      const { engine, generation } = await this.#open();
      // Another engine's trap may have come in between, and then not even `free` may be called.
      if (generation !== this.#instance.numDiscarded) return;
      const isTheSame = engine.bundleHash() === this.#bundleHash;
      // A bundle that was replaced on the server would not fit what is remembered of this one.
      if (this.#isFreed || this.#engine !== undefined || !isTheSame) {
        engine.free();
        return;
      }
      this.#engine = engine;
      const hooks = this.#onReplaced;
      // Through `#run`, so that another trap counts.
      this.#run((replaced) => hooks?.restore(replaced));
      hooks?.done();
    } catch {
      // A server that is away, or another trap; a state that is refused leaves the engine with an empty one.
    }
  }
}
