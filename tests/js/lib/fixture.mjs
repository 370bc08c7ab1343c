import { readBundle, testBundle } from './bundle.mjs';
import { importPacked } from './node.mjs';
import { installPacked } from './packed.mjs';

/** The installed package, its module in Node, and the bundle that the suites run on. */
export async function openFixture() {
  const bundle = await testBundle();
  const project = await installPacked();
  const sanderling = await importPacked(project);
  const files = await readBundle(bundle);
  // One engine for all tests of a file: loading a model takes longer than most tests.
  const first = await sanderling.Recommender.load({ files, consent: 'none' });
  const { engine } = first;
  const itemIds = Array.from({ length: engine.len() }, (_, row) => engine.itemId(row));
  // `storage: undefined` leaves the choice to the package.
  const load = (options = {}) => sanderling.Recommender.load({ engine, storage: new sanderling.MemoryStorage(), autoSend: false, ...options });
  // For several recommenders at a time: an engine serves one.
  const loadOwn = (options = {}) => sanderling.Recommender.load({ files, storage: new sanderling.MemoryStorage(), autoSend: false, ...options });
  return { loadOwn, bundle, project, sanderling, files, itemIds, engine, load, windowSeconds: first.bundle.telemetry.windowSeconds };
}

/** Makes one list from a short session, so that there is something to report. */
export function browse(recommender, itemIds, options = {}) {
  for (const itemId of itemIds.slice(0, 3)) recommender.observe({ itemId, kind: 'view' });
  return recommender.recommend({ limit: 5, ...options });
}
