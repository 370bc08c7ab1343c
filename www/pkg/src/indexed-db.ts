import type { Json } from './engine.js';
import { GONE, type DeviceStorage } from './storage.js';

const STORE = 'records';

/** A storage in the browser's IndexedDB. Opening it writes, so it is opened only with consent. */
export class IndexedDbStorage implements DeviceStorage {
  readonly description = 'indexeddb';
  readonly #name: string;
  #database: Promise<IDBDatabase | undefined> | undefined;
  /** Whether another page has removed the database, for a user who wants nothing kept. It is used where that user has begun it anew, and not made. */
  isGone = false;
  readonly #listeners = new Set<() => void>();

  /** `name` is the database's name; nothing is opened before the first use. */
  constructor(name: string) {
    this.#name = name;
  }

  async get(key: string): Promise<Json | undefined> {
    const store = (await this.#open())?.transaction(STORE, 'readonly').objectStore(STORE);
    return store && result(store.get(key) as IDBRequest<Json | undefined>);
  }

  async update(key: string, change: (current: Json | undefined) => Json | undefined): Promise<Json | undefined> {
    const transaction = (await this.#open())?.transaction(STORE, 'readwrite', { durability: 'strict' });
    if (transaction === undefined) {
      // There is nothing to remove, and nothing is written.
      if (change(undefined) === undefined) return undefined;
      throw GONE;
    }
    const store = transaction.objectStore(STORE);
    const current = store.get(key) as IDBRequest<Json | undefined>;
    let next: Json | undefined;
    let failure: unknown;
    current.onsuccess = () => {
      try {
        next = change(current.result);
        if (next === undefined) store.delete(key);
        else store.put(next, key);
        // Without another turn of this page, which may be on its way out.
        transaction.commit?.();
      } catch (thrown) {
        failure = thrown;
        transaction.abort();
      }
    };
    await committed(transaction).catch((error: unknown) => {
      throw failure ?? error;
    });
    return next;
  }

  async entries(): Promise<Record<string, Json>> {
    const store = (await this.#open())?.transaction(STORE, 'readonly').objectStore(STORE);
    if (store === undefined) return {};
    const [keys, values] = await Promise.all([result(store.getAllKeys()), result(store.getAll() as IDBRequest<Json[]>)]);
    return Object.fromEntries(keys.map((key, index) => [String(key), values[index] as Json]));
  }

  async clear(): Promise<void> {
    const transaction = (await this.#open())?.transaction(STORE, 'readwrite', { durability: 'strict' });
    if (transaction === undefined) return;
    transaction.objectStore(STORE).clear();
    await committed(transaction);
  }

  /** Deletes the database; for one that was never made, this writes nothing. What is written afterwards begins another. */
  async destroy(): Promise<void> {
    this.#disconnect();
    // Those that still use it are to leave it.
    this.#tell();
    await result(indexedDB.deleteDatabase(this.#name));
    this.isGone = false;
  }

  onGone(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  begin(): void {
    this.isGone = false;
  }

  /** Nothing where others listen still: a connection hears of a removal only while it is open. */
  close(): void {
    if (this.#listeners.size === 0) this.#disconnect();
  }

  #tell(): void {
    for (const listener of [...this.#listeners]) listener();
  }

  #disconnect(): void {
    const database = this.#database;
    this.#database = undefined;
    void database?.then((open) => open?.close()).catch(() => {});
  }

  #open(): Promise<IDBDatabase | undefined> {
    this.#database ??= this.#connect().catch((error: unknown) => {
      this.#database = undefined;
      if (error === GONE) return undefined;
      throw error;
    });
    return this.#database;
  }

  async #connect(): Promise<IDBDatabase> {
    const request = indexedDB.open(this.#name, 1);
    let isMissing = false;
    request.onupgradeneeded = () => {
      isMissing = this.isGone;
      if (isMissing) request.transaction?.abort();
      else request.result.createObjectStore(STORE);
    };
    const database = await result(request).catch((error: unknown) => {
      throw isMissing ? GONE : error;
    });
    const forget = () => {
      this.#database = undefined;
    };
    database.onclose = forget;
    // There is one version only, so it is being deleted.
    database.onversionchange = () => {
      this.isGone = true;
      database.close();
      forget();
      this.#tell();
    };
    return database;
  }
}

function result<T>(request: IDBRequest<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

function committed(transaction: IDBTransaction): Promise<void> {
  return new Promise((resolve, reject) => {
    transaction.oncomplete = () => resolve();
    transaction.onerror = () => reject(transaction.error);
    transaction.onabort = () => reject(transaction.error);
  });
}
