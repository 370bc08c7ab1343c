import type { Json } from './engine.js';
import type { DeviceStorage } from './storage.js';

const STORE = 'records';

/** A storage in the browser's IndexedDB. Opening it writes, so it is opened only with consent. */
export class IndexedDbStorage implements DeviceStorage {
  readonly description = 'indexeddb';
  readonly #name: string;
  #database: Promise<IDBDatabase> | undefined;
  /** Somebody else has removed it, for a user who wants nothing kept: it is not made again. */
  isGone = false;

  /** `name` is the database's name; nothing is opened before the first use. */
  constructor(name: string) {
    this.#name = name;
  }

  async get(key: string): Promise<Json | undefined> {
    const store = (await this.#open()).transaction(STORE, 'readonly').objectStore(STORE);
    return result(store.get(key) as IDBRequest<Json | undefined>);
  }

  async update(key: string, change: (current: Json | undefined) => Json | undefined): Promise<Json | undefined> {
    const transaction = (await this.#open()).transaction(STORE, 'readwrite', { durability: 'strict' });
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
    const store = (await this.#open()).transaction(STORE, 'readonly').objectStore(STORE);
    const [keys, values] = await Promise.all([result(store.getAllKeys()), result(store.getAll() as IDBRequest<Json[]>)]);
    return Object.fromEntries(keys.map((key, index) => [String(key), values[index] as Json]));
  }

  async clear(): Promise<void> {
    const transaction = (await this.#open()).transaction(STORE, 'readwrite', { durability: 'strict' });
    transaction.objectStore(STORE).clear();
    await committed(transaction);
  }

  /** Deletes the database; for one that was never made, this writes nothing. */
  async destroy(): Promise<void> {
    this.close();
    await result(indexedDB.deleteDatabase(this.#name));
  }

  close(): void {
    const database = this.#database;
    this.#database = undefined;
    void database?.then((open) => open.close()).catch(() => {});
  }

  #open(): Promise<IDBDatabase> {
    if (this.isGone) return Promise.reject();
    this.#database ??= this.#connect().catch((error: unknown) => {
      this.#database = undefined;
      throw error;
    });
    return this.#database;
  }

  async #connect(): Promise<IDBDatabase> {
    const request = indexedDB.open(this.#name, 1);
    request.onupgradeneeded = () => request.result.createObjectStore(STORE);
    const database = await result(request);
    const forget = () => {
      this.#database = undefined;
    };
    database.onclose = forget;
    // There is one version only, so it is being deleted.
    database.onversionchange = () => {
      this.isGone = true;
      database.close();
      forget();
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
