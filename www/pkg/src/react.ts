/**
 * The entry `sanderling/react`: two hooks. Importing it does nothing, and on a server nothing is loaded: the first answer
 * comes after the first paint.
 */
import {
  useCallback, useEffect, useMemo, useRef, useState, useSyncExternalStore, type DetailedHTMLProps, type HTMLAttributes,
} from 'react';

import { Recommender } from './browser.js';
import { anySignal } from './bundle.js';
import type { SanderlingRecommendations } from './element.js';
import { RecommenderError, toRecommenderError } from './errors.js';
import type { Consent, LoadOptions, RecommendOptions, RecommendResponse } from './types.js';

/** What {@link useRecommender} has so far: neither while it loads, both where a consent could not be followed. */
export interface LoadedRecommender {
  recommender?: Recommender;
  error?: RecommenderError;
}

/**
 * Loads a bundle while the component is mounted, and frees it afterwards. Another folder loads anew, another `consent` is followed at once; other
 * options count when it is loaded. `undefined` loads nothing yet. Every call loads an engine of its own: share one by a context.
 */
export function useRecommender(source: string | URL | LoadOptions | undefined): LoadedRecommender {
  const [loaded, setLoaded] = useState<LoadedRecommender>({});
  /** The consent that the recommender was told last. */
  const told = useRef<Consent | undefined>(undefined);
  const key = keyOf(source);
  useEffect(() => {
    if (source === undefined) return undefined;
    const controller = new AbortController();
    let recommender: Recommender | undefined;
    const options: LoadOptions = typeof source === 'string' || source instanceof URL ? { baseUrl: source } : source;
    told.current = options.consent;
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
      // When what uses it has been cleaned up and rendered without it.
      if (recommender !== undefined) setTimeout(() => recommender?.free());
    };
    // Options are often written in place, so that they are new objects each time.
  }, [key]);
  const { recommender } = loaded;
  const consent = typeof source === 'object' && !(source instanceof URL) ? source.consent : undefined;
  useEffect(() => {
    // One that was left out says nothing.
    if (recommender === undefined || consent === undefined || consent === told.current) return;
    told.current = consent;
    // Of a recommender that was left meanwhile nothing is shown any more.
    const show = (next: LoadedRecommender) => setLoaded((now) => (now.recommender === recommender ? next : now));
    recommender.setConsent(consent).then(
      () => show({ recommender }),
      (thrown: unknown) => show({ recommender, error: toRecommenderError(thrown, 'internal', 'the consent cannot be changed') }),
    );
  }, [recommender, consent]);
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
  // Of files that are put together in place the manifest is the same each time.
  return source.files?.['manifest.json'] ?? source.files ?? source.engine ?? String(source.baseUrl ?? source.channelUrl);
}

/** `<sanderling-recommendations>` of `sanderling/element` in JSX; properties as React 19 sets them. */
interface ElementProps extends DetailedHTMLProps<HTMLAttributes<SanderlingRecommendations>, SanderlingRecommendations> {
  'base-url'?: string | undefined;
  'collector-url'?: string | undefined;
  consent?: Consent | undefined;
  kind?: string | undefined;
  limit?: number | undefined;
  loadOptions?: LoadOptions | undefined;
  options?: RecommendOptions | undefined;
  personalise?: boolean | undefined;
  recommender?: Recommender | undefined;
}

declare module 'react' {
  namespace JSX {
    interface IntrinsicElements {
      'sanderling-recommendations': ElementProps;
    }
  }
}
