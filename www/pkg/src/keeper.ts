import { inTime, STORAGE_MILLIS } from './patience.js';
import { FallbackStorage, GONE, type DeviceStorage } from './storage.js';

/**
 * The one door to storage: runs writes one after another behind the caller's back. A write that
 * fails is dropped and counted, because remembering must never stop recommending; one that takes too long is counted, and goes on.
 */
export class Keeper {
  storage: DeviceStorage;
  /** Writes that failed. */
  numFailures = 0;
  #tail: Promise<unknown> = Promise.resolve();
  readonly #background = new Set<Promise<unknown>>();
  /** Whether storage does not answer: nobody else waits for it until it does. */
  isStuck = false;

  constructor(storage: DeviceStorage) {
    this.storage = storage;
  }

  /** Whether what is written is still there at the next visit. */
  get isDurable(): boolean {
    return !(this.storage instanceof FallbackStorage || this.storage.isGone);
  }

  /** Queues work; resolves to its result, or to `undefined` when it failed or is not done in time. */
  enqueue<T>(work: (storage: DeviceStorage) => Promise<T>): Promise<T | undefined> {
    const done = this.#tail.then(() => work(this.storage)).catch((thrown: unknown): undefined => {
      if (thrown !== GONE) this.numFailures += 1;
      return undefined;
    });
    this.#tail = done.then(() => {
      this.isStuck = false;
    });
    return inTime(done, this.isStuck ? 0 : STORAGE_MILLIS, () => {
      this.isStuck = true;
      this.numFailures += 1;
      return undefined;
    });
  }

  /** Lets work that is not a write, such as a send, count for {@link Keeper.settled}. */
  track(work: Promise<unknown>): void {
    const done: Promise<unknown> = work.catch(() => {}).finally(() => this.#background.delete(done));
    this.#background.add(done);
  }

  /** Resolves when everything queued and tracked so far is done, or storage does not answer. */
  async settled(): Promise<void> {
    let tail;
    do {
      const written = this.enqueue(async () => {});
      tail = this.#tail;
      await Promise.all([written, ...this.#background]);
    } while (!this.isStuck && (tail !== this.#tail || this.#background.size > 0));
  }
}
