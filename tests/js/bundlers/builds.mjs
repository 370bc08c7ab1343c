/**
 * How an application is built by each bundler, with the settings that its user needs and no others; a warning fails, except
 * webpack's of the sizes. Each takes the folder of the application, whose script is `main.js` and whose page is `index.html`,
 * and puts the site into its folder `out`.
 */
import { copyFile } from 'node:fs/promises';
import { join } from 'node:path';

import { nodeResolve } from '@rollup/plugin-node-resolve';
import { importMetaAssets } from '@web/rollup-plugin-import-meta-assets';
import { rollup } from 'rollup';
import * as vite from 'vite';
import * as vite7 from 'vite-7';
import webpack from 'webpack';

import { importTool } from '../lib/paths.mjs';

const copyPage = (app) => copyFile(join(app, 'index.html'), join(app, 'out', 'index.html'));

/** Before Vite 8, workers have to be modules, and the package has to be left as it is in development. */
const BEFORE_VITE_8 = { worker: { format: 'es' }, optimizeDeps: { exclude: ['sanderling'] } };
const VITES = { 'Vite 8': [vite, {}], 'Vite 7': [vite7, BEFORE_VITE_8] };

/** Vite of that name, which begins with the page. */
export const withVite = (name) => async (app) => {
  const [{ build }, settings] = VITES[name];
  await build({ ...settings, root: app, base: './', build: { outDir: 'out' }, configFile: false, logLevel: 'silent' });
};

/** The development server of Vite of that name; resolves to its URL and a function that stops it. */
export async function startVite(name, app) {
  const [{ createServer }, settings] = VITES[name];
  const server = await createServer({
    ...settings, root: app, configFile: false, logLevel: 'silent', cacheDir: join(app, '.vite'), server: { host: '127.0.0.1', port: 0 },
  });
  await server.listen();
  return { url: server.resolvedUrls.local[0], close: () => server.close() };
}

export async function withWebpack(app) {
  const config = {
    context: app, mode: 'production', entry: './main.js', output: { path: join(app, 'out'), filename: 'main.js' }, performance: { hints: false },
  };
  const stats = await new Promise((resolve, reject) => {
    webpack(config, (error, result) => (error === null ? resolve(result) : reject(error)));
  });
  const { errors, warnings } = stats.toJson({ all: false, errors: true, warnings: true });
  fail([...errors, ...warnings]);
  await copyPage(app);
}

/** Rollup takes no address in `new Worker` for a script, so the worker's is an entry of its own. */
export async function withRollup(app) {
  const problems = [];
  const bundle = await rollup({
    input: { main: join(app, 'main.js'), worker: workerScript(app) },
    plugins: [nodeResolve(), importMetaAssets({ transform: (bytes, path) => (path.endsWith('worker.js') ? null : bytes) })],
    onwarn: (warning) => problems.push(warning),
  });
  fail(problems);
  await bundle.write({ dir: join(app, 'out') });
  await bundle.close();
  await copyPage(app);
}

/** esbuild follows no address in `new URL`: the script imports that of the engine, and the worker's script is an entry. */
export async function withEsbuild(app) {
  const esbuild = await importTool('esbuild');
  const { warnings } = await esbuild.build({
    entryPoints: { main: join(app, 'main.js'), worker: workerScript(app) },
    outdir: join(app, 'out'), bundle: true, splitting: true, format: 'esm', minify: true, loader: { '.wasm': 'file' }, logLevel: 'silent',
  });
  fail(warnings.map(({ text: message }) => ({ message })));
  await copyPage(app);
}

const workerScript = (app) => join(app, '..', 'node_modules', 'sanderling', 'dist', 'worker.js');

function fail(problems) {
  if (problems.length > 0) throw new Error(problems.map(({ message }) => message).join('\n'));
}
