/** The script of the worker that `Recommender.inWorker` starts: one recommender, called by messages. */
import { toRecommenderError } from './errors.js';
import { recommenderOn } from './load.js';
import { browser } from './platforms/browser.js';
import { slimInBrowsers } from './slim-in-browsers.js';
import type { RecommenderBase } from './recommender.js';
import type { LoadOptions } from './types.js';
import { METHODS, PROPERTIES, type Answer, type Call, type Loaded } from './worker-protocol.js';

const Recommender = recommenderOn(browser({
  slim: slimInBrowsers,
  full: { bindings: () => import('../wasm/sanderling_full.js'), wasm: () => new URL('../wasm/sanderling_full_bg.wasm', import.meta.url) },
}));

/** The part of a worker's global scope that is used here; `lib.dom` describes a page's. */
interface Scope {
  onmessage: ((event: { data: Call }) => void) | null;
  postMessage(answer: Answer): void;
}

const scope = globalThis as unknown as Scope;
let recommender: RecommenderBase | undefined;

async function answer({ method, args }: Call): Promise<unknown> {
  if (method === 'load') {
    recommender = await Recommender.load(args[0] as LoadOptions);
    const loaded = recommender;
    loaded.onChange(() => scope.postMessage({ revision: loaded.revision }));
    return { bundle: loaded.bundle } satisfies Loaded;
  }
  if (method === 'preview') return recommender!.telemetry.preview();
  if (method === 'written') return recommender!.written();
  if (method === 'flush') return recommender!.telemetry.flush(args[0] as { now?: number });
  if (isOne(PROPERTIES, method)) return recommender![method];
  if (!isOne(METHODS, method)) throw new TypeError(`there is no method ${method}`);
  const call = recommender![method] as (...args: readonly unknown[]) => unknown;
  return call.apply(recommender, args as unknown[]);
}

function isOne<T extends string>(names: readonly T[], name: string): name is T {
  return (names as readonly string[]).includes(name);
}

// Calls are answered in their order: what was observed counts for the list that is asked for next.
scope.onmessage = ({ data }) => {
  answer(data).then(
    (result) => scope.postMessage({ id: data.id, result }),
    (thrown: unknown) => {
      const { code, summary, details } = toRecommenderError(thrown, 'internal', 'the worker failed');
      scope.postMessage({ id: data.id, error: { code, summary, details } });
    },
  );
};
