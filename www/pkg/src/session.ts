import { readStoredSession } from './arguments.js';
import type { Json, WireInteraction } from './engine.js';
import type { Keeper } from './keeper.js';

/** Key of the session's record. */
export const SESSION_KEY = 'session';

/**
 * The user's interactions, oldest first, at most `maxLength`. Reads are from memory; each write
 * appends to what is stored, so that several tabs add to one session and an erase in one of them
 * is not undone by another.
 */
export class Session {
  readonly #keeper: Keeper;
  readonly #maxLength: number;
  readonly #changed: () => void;
  #interactions: WireInteraction[] = [];
  #unsaved: WireInteraction[] = [];
  #isQueued = false;
  /** Counts erases: what a write began before one brings back is not taken over after it. */
  #numErases = 0;

  /** `changed` is called when what the engine is asked with has become another. */
  constructor(keeper: Keeper, maxLength: number, changed: () => void) {
    this.#keeper = keeper;
    this.#maxLength = maxLength;
    this.#changed = changed;
  }

  /** Everything that is remembered. */
  get interactions(): WireInteraction[] {
    return this.#interactions;
  }

  /**
   * What the engine is asked with at `now`: the newest interactions, back to the first pause of more than `idleSeconds`. A clock that
   * was put back makes no pause.
   */
  current(now: number, idleSeconds: number): WireInteraction[] {
    const interactions = this.#interactions;
    let next = now;
    let from = interactions.length;
    while (from > 0 && next - interactions[from - 1]!.timestamp <= idleSeconds) {
      from -= 1;
      next = interactions[from]!.timestamp;
    }
    return from === 0 ? interactions : interactions.slice(from);
  }

  /** Reads what earlier visits left. */
  async restore(): Promise<void> {
    const numErases = this.#numErases;
    await this.#keeper.enqueue(async (storage) => {
      const stored = readStoredSession(await storage.get(SESSION_KEY));
      if (numErases === this.#numErases) this.#replace(this.#capped([...stored, ...this.#interactions]));
    });
  }

  /** Takes over what other pages have added or erased since. */
  async refresh(): Promise<void> {
    const numErases = this.#numErases;
    await this.#keeper.enqueue(async (storage) => {
      const { [SESSION_KEY]: stored } = await storage.entries();
      if (numErases === this.#numErases) this.#takeOver(stored);
    });
  }

  /** Adds one interaction at the end. */
  append(interaction: WireInteraction): void {
    this.#replace(this.#capped([...this.#interactions, interaction]));
    this.#unsaved.push(interaction);
    this.#saveSoon();
  }

  /** Writes all of it, to a storage that has just been allowed. */
  saveAll(): void {
    this.#unsaved = [...this.#interactions];
    this.#saveSoon();
  }

  /** Forgets everything, here and in storage. Resolves to whether it could. */
  erase(): Promise<boolean> {
    this.#numErases += 1;
    this.#replace([]);
    this.#unsaved = [];
    this.#isQueued = false;
    return this.#keeper.write((storage) => storage.update(SESSION_KEY, () => undefined));
  }

  #saveSoon(): void {
    if (this.#isQueued || this.#unsaved.length === 0) return;
    this.#isQueued = true;
    const numErases = this.#numErases;
    void this.#keeper.enqueue(() => this.#save(numErases));
  }

  /** Unless there was an erase since it was asked for: what came after that has a write of its own behind it. */
  async #save(numErases: number): Promise<void> {
    if (numErases !== this.#numErases) return;
    const added = this.#unsaved;
    this.#isQueued = false;
    this.#unsaved = [];
    if (added.length === 0) return;
    const append = (stored: Json | undefined) => this.#capped([...readStoredSession(stored), ...added]) as unknown as Json;
    const merged = await this.#keeper.storage.update(SESSION_KEY, append).catch((thrown: unknown) => {
      // For the next write.
      if (numErases === this.#numErases) this.#unsaved = this.#capped([...added, ...this.#unsaved]);
      throw thrown;
    });
    if (numErases === this.#numErases) this.#takeOver(merged);
  }

  /** Other pages may have added to it. */
  #takeOver(stored: Json | undefined): void {
    const interactions = this.#capped([...readStoredSession(stored), ...this.#unsaved]);
    if (!sameInteractions(interactions, this.#interactions)) this.#replace(interactions);
  }

  #replace(interactions: WireInteraction[]): void {
    this.#interactions = interactions;
    this.#changed();
  }

  #capped(interactions: WireInteraction[]): WireInteraction[] {
    return interactions.slice(Math.max(0, interactions.length - this.#maxLength));
  }
}

function sameInteractions(a: WireInteraction[], b: WireInteraction[]): boolean {
  return a.length === b.length && a.every((one, at) => {
    const other = b[at];
    return one.item_id === other?.item_id && one.kind === other.kind && one.timestamp === other.timestamp;
  });
}
