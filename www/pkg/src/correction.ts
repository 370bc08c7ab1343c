import type { Engine, Json, WireCorrection, WireManifest } from './engine.js';
import type { Keeper } from './keeper.js';

/** Key of the correction's record. */
export const CORRECTION_KEY = 'correction';
/** As `Correction::MAX_UPDATES`. */
const MAX_UPDATES = 200;
/** As `Correction::SUMS`. */
const SUMS = 3;

/**
 * What was learned of the user. It is in memory at once; each write adds to what is stored, so that several tabs teach one
 * correction and an erase in one of them is not undone by another.
 */
export class UserCorrection {
  readonly #keeper: Keeper;
  readonly #manifest: WireManifest;
  readonly #changed: () => void;
  #current: WireCorrection | undefined;
  /** At the last exchange with storage; the difference to it is ours to add. */
  #saved: WireCorrection | undefined;
  #numErases = 0;

  /** `changed` is called when the engine is asked with another correction. */
  constructor(keeper: Keeper, manifest: WireManifest, changed: () => void) {
    this.#keeper = keeper;
    this.#manifest = manifest;
    this.#changed = changed;
  }

  /** What the engine is asked with. */
  get current(): WireCorrection | undefined {
    return this.#current;
  }

  /** Takes up what earlier visits left, unless it is of other features: that is dropped. */
  async restore(): Promise<void> {
    const numErases = this.#numErases;
    await this.#keeper.enqueue(async (storage) => {
      const stored = this.#read(await storage.update(CORRECTION_KEY, (found) => this.#read(found) as Json | undefined));
      if (numErases !== this.#numErases) return;
      // With what was learned before storage answered.
      this.#current = this.#current === undefined ? stored : moved(stored, this.#current, this.#saved);
      this.#saved = stored;
      this.#changed();
    });
  }

  /** Learns that the item at a position of the newest list was chosen. */
  learn(engine: Engine, position: number): void {
    const { sums: known, num_updates: before } = this.#current ?? { sums: [], num_updates: 0 };
    const sums = [...engine.learn(Float32Array.of(...known, before), position)];
    const updates = sums.pop()!;
    this.#current = { format_version: 1, feature_spec_sha256: this.#manifest.feature_spec_sha256, num_updates: updates, sums };
    this.#changed();
    this.#saveSoon();
  }

  /** Writes all of it, to a storage that has just been allowed. */
  saveAll(): void {
    this.#saved = undefined;
    if (this.#current !== undefined) this.#saveSoon();
  }

  /** Forgets it, here and in storage. Resolves to whether it could. */
  erase(): Promise<boolean> {
    this.#numErases += 1;
    this.#current = this.#saved = undefined;
    return this.#keeper.write((storage) => storage.update(CORRECTION_KEY, () => undefined));
  }

  #saveSoon(): void {
    const numErases = this.#numErases;
    void this.#keeper.enqueue(() => this.#save(numErases));
  }

  /** Unless there was an erase since it was asked for. */
  async #save(numErases: number): Promise<void> {
    const current = this.#current;
    if (current === undefined || numErases !== this.#numErases) return;
    const stored = await this.#keeper.storage.update(
      CORRECTION_KEY,
      (found) => moved(this.#read(found), current, this.#saved) as unknown as Json,
    );
    if (numErases !== this.#numErases) return;
    this.#saved = this.#read(stored);
    const merged = moved(this.#saved, this.#current!, current);
    const isSame = merged.sums.every((sum, at) => sum === this.#current!.sums[at]);
    this.#current = merged;
    // Other tabs may have taught it.
    if (!isSame) this.#changed();
  }

  #read(value: unknown): WireCorrection | undefined {
    return readCorrection(value, this.#manifest);
  }
}

/** A correction that the bundle can use; `undefined` for anything else. */
export function readCorrection(value: unknown, { feature_spec_sha256: spec, shapes }: WireManifest): WireCorrection | undefined {
  const { format_version: version, feature_spec_sha256: ownSpec, num_updates: updates, sums } = (value ?? {}) as Partial<WireCorrection>;
  const isUsable =
    version === 1 && ownSpec === spec && Number.isSafeInteger(updates) &&
    Array.isArray(sums) && sums.length === SUMS * shapes.num_features && sums.every(Number.isFinite);
  return isUsable ? { format_version: 1, feature_spec_sha256: spec, num_updates: within(updates!), sums } : undefined;
}

/** `base` with what was learned between `before` and `after`. */
function moved(base: WireCorrection | undefined, after: WireCorrection, before: WireCorrection | undefined): WireCorrection {
  const sums = after.sums.map((sum, at) => {
    const [stored, old] = [base?.sums[at] ?? 0, before?.sums[at] ?? 0];
    // The last of a feature's numbers is a maximum, the others are sums, the second one of squares.
    if (at % SUMS === 2) return Math.max(sum, stored);
    const moved = sum + (stored - old);
    return at % SUMS === 1 ? Math.max(moved, 0) : moved;
  });
  return { ...after, num_updates: within(after.num_updates + (base?.num_updates ?? 0) - (before?.num_updates ?? 0)), sums };
}

function within(updates: number): number {
  return Math.min(Math.max(updates, 0), MAX_UPDATES);
}
