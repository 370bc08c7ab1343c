/**
 * The entry `sanderling/react`: two hooks. Importing it does nothing, and on a server nothing is loaded: the first answer
 * comes after the first paint.
 */
import { useCallback, useEffect, useMemo, useState, useSyncExternalStore } from 'react';

import { Recommender } from './browser.js';
import { anySignal } from './bundle.js';
import { RecommenderError, toRecommenderError } from './errors.js';
import type { LoadOptions, RecommendOptions, RecommendResponse } from './types.js';

/** What {@link useRecommender} has so far: neither while it loads. */
export interface LoadedRecommender {
  recommender?: Recommender;
  error?: RecommenderError;
}

/**
 * Loads a bundle while the component is mounted, and frees it afterwards. Another folder loads anew; other options count
 * when it does. `undefined` loads nothing yet.
 */
export function useRecommender(source: string | URL | LoadOptions | undefined): LoadedRecommender {
  const [loaded, setLoaded] = useState<LoadedRecommender>({});
  const key = keyOf(source);
  useEffect(() => {
    if (source === undefined) return undefined;
    const controller = new AbortController();
    let recommender: Recommender | undefined;
    const options = typeof source === 'string' || source instanceof URL ? { baseUrl: source } : source;
    Recommender.load({ ...options, signal: anySignal(options.signal, controller.signal) }).then(
      (done) => {
        if (controller.signal.aborted) return done.free();
        recommender = done;
        setLoaded({ recommender: done });
      },
      (thrown: unknown) => {
        if (!controller.signal.aborted) setLoaded({ error: toRecommenderError(thrown, 'internal', 'the bundle cannot be opened') });
      },
    );
    return () => {
      controller.abort();
      setLoaded({});
      // When what uses it has been cleaned up, too: the order of cleanups is that of components.
      queueMicrotask(() => recommender?.free());
    };
    // Options are often written in place, so that they are new objects each time.
  }, [key]);
  return loaded;
}

const NOTHING: RecommendResponse = { recommendations: [], faults: [] };

/** Recommends again whenever the session or an option changes; an empty list until there is a recommender. */
export function useRecommendations(recommender: Recommender | undefined, options: RecommendOptions = {}): RecommendResponse {
  const subscribe = useCallback((changed: () => void) => recommender?.onChange(changed) ?? (() => {}), [recommender]);
  const revision = useSyncExternalStore(subscribe, () => recommender?.revision ?? -1, () => -1);
  const wanted = JSON.stringify(options);
  return useMemo(() => recommender?.recommend(options) ?? NOTHING, [recommender, revision, wanted]);
}

function keyOf(source: string | URL | LoadOptions | undefined): unknown {
  if (source === undefined || typeof source === 'string') return source;
  if (source instanceof URL) return source.href;
  return source.files ?? source.engine ?? String(source.baseUrl ?? source.channelUrl);
}
