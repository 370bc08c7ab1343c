import { inTime, STORAGE_MILLIS, STUCK_MILLIS } from './patience.js';
import { FallbackStorage, GONE, type DeviceStorage } from './storage.js';

/**
 * The one door to storage: runs writes one after another behind the caller's back. A write that
 * fails is dropped, because remembering must never stop recommending; one that takes too long is not waited for, and goes on.
 */
export class Keeper {
  storage: DeviceStorage;
  /** Whether storage does not answer: nobody waits for it long until it does. */
  isStuck = false;
  #tail: Promise<unknown> = Promise.resolve();
  readonly #background = new Set<Promise<unknown>>();

  constructor(storage: DeviceStorage) {
    this.storage = storage;
  }

  /** Whether what is written is still there at the next visit. */
  get isDurable(): boolean {
    return !(this.storage instanceof FallbackStorage || this.storage.isGone);
  }

  /** Queues work; resolves to its result, or to `undefined` when it failed or is not done in time. */
  enqueue<T>(work: (storage: DeviceStorage) => Promise<T>): Promise<T | undefined> {
    const done = this.#tail.then(() => work(this.storage)).catch(() => undefined);
    this.#tail = done.then(() => {
      this.isStuck = false;
    });
    return this.#inTime(done);
  }

  /** Queues a write; resolves to whether it is done. There is nothing to write, or remove, where storage is gone. */
  async write(work: (storage: DeviceStorage) => Promise<unknown>): Promise<boolean> {
    const isDone = this.enqueue(async (storage) => {
      await work(storage).catch((thrown: unknown) => {
        if (thrown !== GONE) throw thrown;
      });
      return true;
    });
    return (await isDone) ?? false;
  }

  /** Lets work that is not a write, such as a send, count for {@link Keeper.settled}. */
  track(work: Promise<unknown>): void {
    const done: Promise<unknown> = work.catch(() => {}).finally(() => this.#background.delete(done));
    this.#background.add(done);
  }

  /** Resolves when everything queued and tracked so far is done; unless it is waited for `forever`, also when storage does not answer. */
  async settled(forever = false): Promise<void> {
    let tail;
    do {
      tail = this.#tail;
      await Promise.all([forever ? tail : this.#inTime(tail), ...this.#background]);
    } while ((forever || !this.isStuck) && (tail !== this.#tail || this.#background.size > 0));
  }

  #inTime<T>(work: Promise<T>): Promise<T | undefined> {
    return inTime(work, this.isStuck ? STUCK_MILLIS : STORAGE_MILLIS, () => {
      this.isStuck = true;
      return undefined;
    });
  }
}
