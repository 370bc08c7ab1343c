import { createRequire } from 'node:module';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

export const REPO = fileURLToPath(new URL('../../..', import.meta.url));
export const WWW = fileURLToPath(new URL('../../../www/', import.meta.url));
/** The folder of other people's tools that the package must work with. */
export const OTHERS = fileURLToPath(new URL('../bundlers/', import.meta.url));
/** Where throw-away projects are kept between runs. */
export const BUILD = process.env.SANDERLING_BUILD ?? fileURLToPath(new URL('../../../build/', import.meta.url));

/** The native program, as `cargo build` leaves it. */
export const PROGRAM = process.env.SANDERLING_PROGRAM ?? join(process.env.CARGO_TARGET_DIR ?? join(REPO, 'target'), 'debug', 'sanderling');

const require = createRequire(new URL('../../../www/package.json', import.meta.url));

const others = createRequire(join(OTHERS, 'package.json'));

/** Imports one of the development tools that `www/package.json` pins. */
export function importTool(name) {
  return import(pathToFileURL(require.resolve(name)).href);
}

/** The command of a development tool's program, such as `typescript/bin/tsc`. */
export function toolPath(name) {
  return require.resolve(name);
}

/** As `importTool`, for what `tests/js/bundlers/package.json` pins. */
export function importOther(name) {
  return import(pathToFileURL(others.resolve(name)).href);
}

/** As `toolPath`, for what `tests/js/bundlers/package.json` pins. */
export function otherPath(name) {
  return others.resolve(name);
}
