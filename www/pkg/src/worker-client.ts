/// <reference lib="esnext.disposable" preserve="true" />
import { defaultConsent, effectiveConsent, privacySignal } from './consent.js';
import { dropDraws } from './draws.js';
import { RecommenderError, toRecommenderError } from './errors.js';
import { disposeSymbol, MAX_TIMER_MILLIS } from './globals.js';
import type {
  BundleInfo, Consent, DeviceExport, FlushOptions, FlushResult, LoadOptions, ObserveOptions, OutcomeOptions, PrivacySignal, RankOptions,
  Recommendation, RecommendOptions, RecommendResponse, SessionInteraction, SimilarOptions, TelemetryPreview,
} from './types.js';
import type { Answer, Call, Loaded } from './worker-protocol.js';

/** Options of `Recommender.inWorker`: those of `load` that can be sent to a worker. */
export type WorkerLoadOptions = Omit<LoadOptions, 'engine' | 'fetch' | 'signal' | 'storage'>;

interface Waiting {
  resolve: (result: never) => void;
  reject: (error: RecommenderError) => void;
}

/**
 * A recommender in a worker of its own, so that nothing of it runs on the page's thread: the methods of
 * {@link RecommenderBase}, each answered by a promise, in the order in which they were called.
 */
export class WorkerRecommender {
  /** What is loaded. */
  readonly bundle: BundleInfo;
  readonly #calls: Calls;
  readonly #listeners = new Set<() => void>();
  #revision = 0;

  private constructor(calls: Calls, { bundle }: Loaded) {
    this.#calls = calls;
    this.bundle = bundle;
    calls.onRevision = (revision) => {
      this.#revision = revision;
      for (const listener of [...this.#listeners]) {
        try {
          listener();
        } catch (thrown) {
          // As on the page: it is the listener's own, and no other's.
          reportError(thrown);
        }
      }
    };
  }

  /** @internal Use `Recommender.inWorker`. */
  static async load(start: () => Worker, source: string | URL | WorkerLoadOptions): Promise<WorkerRecommender> {
    const options = typeof source === 'string' || source instanceof URL ? { baseUrl: source } : source;
    const calls = new Calls(started(start));
    try {
      const sent = sendable(options);
      if (sent.consent === 'none') dropDraws();
      return new WorkerRecommender(calls, await calls.call<Loaded>('load', [sent]));
    } catch (thrown) {
      calls.stop();
      throw thrown;
    }
  }

  /** Counts the changes of the session; see {@link RecommenderBase.revision}. */
  get revision(): number {
    return this.#revision;
  }

  /** Calls `listener` after every change of the session, until the returned function is called. */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** The consent in force. */
  get consent(): Promise<Consent> {
    return this.#calls.call('consent', []);
  }

  /** The remembered interactions, oldest first. */
  get session(): Promise<SessionInteraction[]> {
    return this.#calls.call('session', []);
  }

  /** The browser's Global Privacy Control or Do Not Track, where it is on. */
  get privacySignal(): PrivacySignal | null {
    return privacySignal();
  }

  /** Remembers what the user did. */
  observe(options: ObserveOptions): Promise<void> {
    return this.#calls.call('observe', [options]);
  }

  /**
   * As on the page, and it is not waited for longer than `deadlineMs`: a worker that is late, or has failed, is answered for by an
   * empty list with the fault.
   */
  recommend(options: RecommendOptions = {}): Promise<RecommendResponse> {
    return this.#list('recommend', [options], options?.deadlineMs);
  }

  /** As on the page, and as {@link WorkerRecommender.recommend} where the worker is late or has failed. */
  rank(itemIds: readonly string[], options: RankOptions = {}): Promise<RecommendResponse> {
    return this.#list('rank', [itemIds, options], options?.deadlineMs);
  }

  async #list(method: Call['method'], args: readonly unknown[], deadlineMs: number | undefined): Promise<RecommendResponse> {
    const answered = this.#calls.call<RecommendResponse>(method, args).catch((error: RecommenderError) => {
      if (error.code !== 'inference_failed') throw error;
      return { recommendations: [], faults: [{ code: 'engine_failed' as const, detail: error.message }] };
    });
    if (deadlineMs === undefined || !Number.isFinite(deadlineMs)) return answered;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const late = new Promise<RecommendResponse>((resolve) => {
      const detail = `the worker did not answer within ${deadlineMs} ms`;
      const millis = Math.min(Math.max(deadlineMs, 0), MAX_TIMER_MILLIS);
      timer = setTimeout(() => resolve({ recommendations: [], faults: [{ code: 'deadline_exceeded', detail }] }), millis);
    });
    return Promise.race([answered, late]).finally(() => clearTimeout(timer));
  }

  /** The items that are most similar to one item. */
  similar(itemId: string, options: SimilarOptions = {}): Promise<Recommendation[]> {
    return this.#calls.call('similar', [itemId, options]);
  }

  /** Whether the bundle knows an item. */
  hasItem(itemId: string): Promise<boolean> {
    return this.#calls.call('hasItem', [itemId]);
  }

  /** Counts which position of the newest list the user chose, or that none was chosen. */
  recordOutcome(options: OutcomeOptions = {}): Promise<void> {
    return this.#calls.call('recordOutcome', [options]);
  }

  /** Changes what the user allows. */
  setConsent(consent: Consent): Promise<void> {
    // Workers have no part in what pages alone keep.
    if (effectiveConsent(consent) === 'none') dropDraws();
    return this.#calls.call('setConsent', [effectiveConsent(consent)]);
  }

  /** Forgets everything of the user, in memory and in storage. */
  erase(): Promise<void> {
    dropDraws();
    return this.#calls.call('erase', []);
  }

  /** Everything that is stored, in the form in which it is stored. */
  export(): Promise<DeviceExport> {
    return this.#calls.call('export', []);
  }

  /** Resolves when everything observed so far is stored and every started send is over. */
  settled(): Promise<void> {
    return this.#calls.call('settled', []);
  }

  /** As `telemetry` on the page. */
  readonly telemetry = {
    preview: (): Promise<TelemetryPreview> => this.#calls.call('preview', []),
    flush: (options: FlushOptions = {}): Promise<FlushResult> => this.#calls.call('flush', [options]),
  };

  /** Stops the worker, after what was called before is done, or a minute. What is stored stays; any other call rejects afterwards. */
  free(): void {
    void this.#calls.call('written', []).catch(() => {});
    this.#calls.close();
    void this.#calls.idle().then(() => this.#calls.stop());
    this.#listeners.clear();
  }

  [disposeSymbol](): void {
    this.free();
  }
}

/** How long a worker that is freed is waited for. */
const MAX_IDLE_MILLIS = 60_000;

/** Calls that wait for their answers. */
class Calls {
  readonly #worker: Worker;
  readonly #waiting = new Map<number, Waiting>();
  #nextId = 0;
  #end: RecommenderError | undefined;
  onRevision: (revision: number) => void = () => {};

  constructor(worker: Worker) {
    this.#worker = worker;
    worker.onmessage = ({ data }: MessageEvent<Answer>) => this.#receive(data);
    worker.onerror = (event) => this.#fail(new RecommenderError('inference_failed', 'the worker failed', {
      found: event.message ?? 'its script cannot be loaded', hint: 'is the script of the worker beside the package\'s modules? README, "Where it runs"',
    }));
    worker.onmessageerror = () => this.#fail(new RecommenderError('inference_failed', 'the worker sent what cannot be read'));
  }

  call<T>(method: Call['method'], args: readonly unknown[]): Promise<T> {
    if (this.#end !== undefined) return Promise.reject(this.#end);
    return new Promise<T>((resolve, reject) => {
      const id = this.#nextId++;
      try {
        this.#worker.postMessage({ id, method, args } satisfies Call);
      } catch (thrown) {
        // What cannot be cloned is the caller's mistake.
        reject(toRecommenderError(thrown, 'invalid_argument', `the arguments of ${method} cannot be sent to a worker`));
        return;
      }
      this.#waiting.set(id, { resolve: resolve as Waiting['resolve'], reject });
    });
  }

  /** Resolves when every call has its answer, or after {@link MAX_IDLE_MILLIS}: a worker that the browser ended never answers. */
  async idle(): Promise<void> {
    const end = Date.now() + MAX_IDLE_MILLIS;
    while (this.#waiting.size > 0 && Date.now() < end) await new Promise((resolve) => setTimeout(resolve, 20));
  }

  /** Takes no more calls. */
  close(): void {
    this.#end ??= new RecommenderError('invalid_argument', 'the recommender was freed', { hint: 'load it again' });
  }

  stop(): void {
    this.close();
    this.#worker.terminate();
    this.#rejectAll(this.#end!);
  }

  #receive(answer: Answer): void {
    if ('revision' in answer) return this.onRevision(answer.revision);
    const waiting = this.#waiting.get(answer.id);
    this.#waiting.delete(answer.id);
    if ('error' in answer) waiting?.reject(new RecommenderError(answer.error.code, answer.error.summary, answer.error.details));
    else waiting?.resolve(answer.result as never);
  }

  #fail(error: RecommenderError): void {
    this.#end ??= error;
    this.#worker.terminate();
    this.#rejectAll(error);
  }

  #rejectAll(error: RecommenderError): void {
    const waiting = [...this.#waiting.values()];
    this.#waiting.clear();
    for (const { reject } of waiting) reject(error);
  }
}

/** Browsers start no worker whose script is of another origin. */
function started(start: () => Worker): Worker {
  try {
    return start();
  } catch (thrown) {
    throw toRecommenderError(thrown, 'io', 'the worker cannot be started', 'serve the package from the origin of the page');
  }
}

/** Addresses as text, made absolute: a worker's own address is another one. */
function sendable(options: WorkerLoadOptions): WorkerLoadOptions {
  for (const name of ['engine', 'fetch', 'signal', 'storage']) {
    if ((options as Record<string, unknown>)[name] === undefined) continue;
    throw new RecommenderError('invalid_argument', `${name} cannot be sent to a worker`, { hint: 'load on the page, or leave it out' });
  }
  const base = (globalThis as { document?: { baseURI: string } }).document?.baseURI ?? location.href;
  const absolute = (address: string | URL): string => new URL(address, base).href;
  // Browsers show a worker fewer privacy signals than a page.
  const sent = { ...options, consent: effectiveConsent(options.consent ?? defaultConsent()) };
  if (options.baseUrl !== undefined) sent.baseUrl = absolute(options.baseUrl);
  if (options.channelUrl !== undefined) sent.channelUrl = absolute(options.channelUrl);
  if (options.collectorUrl !== undefined) sent.collectorUrl = absolute(options.collectorUrl);
  for (const name of ['wasm', 'fullWasm'] as const) {
    const wasm = options[name];
    if (typeof wasm === 'string' || wasm instanceof URL) sent[name] = absolute(wasm);
  }
  return sent;
}
