import { otherPath } from './paths.mjs';
import { openProgram } from './program.mjs';

/** The package's own script of the program finds it without an install script; reading files is all that it may do here. */
export const denoCommand = () => [process.execPath, otherPath('deno/bin.cjs'), 'run', '--quiet', '--no-remote', '--allow-read'];

/** Opens Deno as a runtime for operations; `project` holds the installed package. */
export function openDeno(options) {
  return openProgram(denoCommand(), options);
}
