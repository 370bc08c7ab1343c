import { createRequire } from 'node:module';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

import { readBundle } from './bundle.mjs';
import { execute } from './execute.mjs';

/** Opens Node as a runtime for operations; `project` holds the installed package. */
export async function openNode({ project, bundle }) {
  const sanderling = await importPacked(project);
  const files = await readBundle(bundle);
  return { run: (operations) => execute(sanderling, files, operations), close: async () => {} };
}

/** Imports a file of the installed package. */
export function importFrom(project, name) {
  return import(pathToFileURL(join(project, 'node_modules/sanderling/dist', `${name}.js`)).href);
}

/** Imports the installed package as a module of its project would. */
export async function importPacked(project) {
  const require = createRequire(join(project, 'index.mjs'));
  return import(pathToFileURL(require.resolve('sanderling')).href);
}
