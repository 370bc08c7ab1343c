import { readdir, readFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { readBundle } from './bundle.mjs';
import { importTool } from './paths.mjs';

const EXECUTE = fileURLToPath(new URL('execute.mjs', import.meta.url));
const COMPATIBILITY_DATE = '2026-04-01';

/** A worker that runs operations on a bundle from its ASSETS binding. */
const RUNNER = `
  import * as sanderling from 'sanderling';
  import { execute } from ${JSON.stringify(EXECUTE)};
  export default {
    async fetch(request, env) {
      const { names, operations } = await request.json();
      const file = async (name) => [name, new Uint8Array(await (await env.ASSETS.fetch('http://assets.invalid/bundle/' + name)).arrayBuffer())];
      const files = Object.fromEntries(await Promise.all(names.map(file)));
      return Response.json(await execute(sanderling, files, operations));
    },
  };
`;

/** Bundles a worker the way its host's tool does: wasm imports stay, as compiled modules. */
export async function bundleWorker({ entry, contents, project }) {
  const esbuild = await importTool('esbuild');
  const modules = new Map();
  const wasm = {
    name: 'compiled-wasm',
    setup(build) {
      build.onResolve({ filter: /\.wasm$/ }, ({ path, resolveDir }) => {
        const name = basename(path);
        modules.set(name, join(resolveDir, path));
        return { path: `./${name}`, external: true };
      });
    },
  };
  const stdin = contents === undefined ? {} : { stdin: { contents, resolveDir: project, sourcefile: 'worker.mjs' } };
  const { outputFiles } = await esbuild.build({
    ...(entry === undefined ? stdin : { entryPoints: [entry] }),
    bundle: true,
    write: false,
    format: 'esm',
    target: 'es2022',
    conditions: ['workerd', 'worker', 'browser'],
    nodePaths: [join(project, 'node_modules')],
    plugins: [wasm],
    logLevel: 'silent',
  });
  const compiled = await Promise.all(
    [...modules].map(async ([name, path]) => ({ type: 'CompiledWasm', path: `./${name}`, contents: await readFile(path) })),
  );
  return [{ type: 'ESModule', path: 'worker.mjs', contents: outputFiles[0].text }, ...compiled];
}

/** Starts workerd on loopback with a bundle behind the ASSETS binding. */
export async function startWorkerd({ modules, bundle, bindings = {}, assets, ...options }) {
  const { Miniflare } = await importTool('miniflare');
  const files = assets ?? (bundle === undefined ? {} : await readBundle(bundle));
  const answer = async (request) => {
    const { Response } = await importTool('miniflare');
    const bytes = files[new URL(request.url).pathname.replace(/^\/bundle\//, '')];
    return bytes === undefined ? new Response('not found', { status: 404 }) : new Response(bytes);
  };
  const worker = new Miniflare({
    modules, modulesRoot: '/', compatibilityDate: COMPATIBILITY_DATE, bindings, serviceBindings: { ASSETS: answer }, host: '127.0.0.1',
    ...options,
  });
  const url = await worker.ready;
  let closed;
  return { worker, url, close: () => (closed ??= worker.dispose()) };
}

/** Opens workerd as a runtime for operations. */
export async function openWorkerd({ project, bundle }) {
  const { worker, close } = await startWorkerd({ modules: await bundleWorker({ contents: RUNNER, project }), bundle });
  const names = await readdir(bundle);
  const run = async (operations) => {
    const response = await worker.dispatchFetch('http://worker.invalid/', {
      method: 'POST',
      body: JSON.stringify({ names, operations }),
    });
    if (!response.ok) throw new Error(`the worker answered ${response.status}: ${await response.text()}`);
    return response.json();
  };
  return { run, close };
}
