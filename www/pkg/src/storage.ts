import type { Json } from './engine.js';
import { RecommenderError } from './errors.js';

/**
 * Where a recommender keeps its state: a few small JSON records by key. Several recommenders, in
 * several tabs, may share one storage, so the only way to write is an atomic update.
 */
export interface DeviceStorage {
  /** Where the records are, for people, such as `indexeddb` or `memory`. */
  readonly description: string;
  /** The record of a key. */
  get(key: string): Promise<Json | undefined>;
  /**
   * Replaces the record of a key by what `change` makes of it, with no other write in between, and
   * resolves to the new record. `change` is synchronous and returns `undefined` to remove it.
   */
  update(key: string, change: (current: Json | undefined) => Json | undefined): Promise<Json | undefined>;
  /** Every record. */
  entries(): Promise<Record<string, Json>>;
  /** Removes every record. */
  clear(): Promise<void>;
  /** Removes every record and, where there is one, the container itself. */
  destroy?(): Promise<void>;
  /** Whether another page has removed the container, for a user who wants nothing kept: this page reports nothing any more. */
  readonly isGone?: boolean;
  /** The user allows it (again): from now on the container is made where it is missing. */
  begin?(): void;
  /** Calls `listener` when the container is removed, by another page or this one, until the returned function is called. */
  onGone?(listener: () => void): () => void;
  /** Gives connections back; the records stay. */
  close?(): void;
}

/** What a write is refused with where the container is gone: nothing is there that could not be removed. */
export const GONE = new Error('another page has removed what was stored');

/** What is told where something had to be removed. */
export function notRemoved({ description: found }: Pick<DeviceStorage, 'description'>): RecommenderError {
  return new RecommenderError('io', 'not everything that is stored could be removed', { found, hint: 'ask again' });
}

/** What is told where storage fails, or does not answer. */
export function notAnswering({ description: found }: Pick<DeviceStorage, 'description'>): RecommenderError {
  return new RecommenderError('io', 'what is stored cannot be read or written', { found, hint: 'ask again' });
}

/** A storage that forgets with the page or process. */
export class MemoryStorage implements DeviceStorage {
  readonly description = 'memory';
  readonly #records: Map<string, Json>;

  /** `records` are the records that it starts with. */
  constructor(records: Record<string, Json> = {}) {
    this.#records = new Map(Object.entries(structuredClone(records)));
  }

  async get(key: string): Promise<Json | undefined> {
    return structuredClone(this.#records.get(key));
  }

  async update(key: string, change: (current: Json | undefined) => Json | undefined): Promise<Json | undefined> {
    const next = change(structuredClone(this.#records.get(key)));
    if (next === undefined) this.#records.delete(key);
    else this.#records.set(key, structuredClone(next));
    return next;
  }

  async entries(): Promise<Record<string, Json>> {
    return structuredClone(Object.fromEntries(this.#records));
  }

  async clear(): Promise<void> {
    this.#records.clear();
  }
}

/**
 * What stands in where nothing durable works. It cannot remember which windows were reported, so
 * nothing is reported from it.
 */
export class FallbackStorage extends MemoryStorage {}
