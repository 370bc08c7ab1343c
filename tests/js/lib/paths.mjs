import { createRequire } from 'node:module';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

export const REPO = fileURLToPath(new URL('../../..', import.meta.url));
export const WWW = fileURLToPath(new URL('../../../www/', import.meta.url));
/** Where throw-away projects are kept between runs. */
export const BUILD = process.env.SANDERLING_BUILD ?? fileURLToPath(new URL('../../../build/', import.meta.url));

/** The native program, as `cargo build` leaves it. */
export const PROGRAM = process.env.SANDERLING_PROGRAM ?? join(process.env.CARGO_TARGET_DIR ?? join(REPO, 'target'), 'debug', 'sanderling');

const require = createRequire(new URL('../../../www/package.json', import.meta.url));

/** Imports one of the development tools that `www/package.json` pins. */
export function importTool(name) {
  return import(pathToFileURL(require.resolve(name)).href);
}

/** The command of a development tool's program, such as `typescript/bin/tsc`. */
export function toolPath(name) {
  return require.resolve(name);
}
