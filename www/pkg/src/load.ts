import { openRecommender, type OpenedRecommender } from './open.js';
import { inTime, LOAD_MILLIS } from './patience.js';
import type { Platform } from './platform.js';
import { RecommenderBase } from './recommender.js';
import type { LoadOptions } from './types.js';

/** The class that an entry exports. */
export interface RecommenderConstructor {
  new (opened: OpenedRecommender): RecommenderBase;
  readonly prototype: RecommenderBase;
  /**
   * Loads a bundle: `await Recommender.load('/bundle/')`. In Node a path does, too; in an edge worker a URL, or `fetch`
   * of an assets binding.
   *
   * @throws RecommenderError with the code of what is wrong with the bundle, or `io`, `not_found`, `cancelled`.
   */
  load(source: string | URL | LoadOptions): Promise<RecommenderBase>;
}

/** Makes the class for a platform. */
export function recommenderOn(platform: Platform): RecommenderConstructor {
  return class Recommender extends RecommenderBase {
    // The base class is for entries alone.
    constructor(opened: OpenedRecommender) {
      super(opened);
    }

    static async load(source: string | URL | LoadOptions): Promise<Recommender> {
      const opened = await openRecommender(source, platform);
      const recommender = new Recommender(opened);
      // A storage that is late still has been waited for.
      const answered = opened.late?.then(() => false, () => false);
      const isLate = answered !== undefined && (await inTime(answered, 0, () => true));
      await inTime(recommender.restore(), isLate ? 0 : LOAD_MILLIS, () => {});
      return recommender;
    }
  };
}
