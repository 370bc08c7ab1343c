import { otherPath } from './paths.mjs';
import { openProgram } from './program.mjs';

const ARCHITECTURES = { x64: 'x64', arm64: 'aarch64' };

/** The program is in a package of its own, and the link to it would be made by an install script. */
export const bunCommand = () => [otherPath(`@oven/bun-${process.platform}-${ARCHITECTURES[process.arch]}/bin/bun`), 'run'];

/** Opens Bun as a runtime for operations; `project` holds the installed package. */
export function openBun(options) {
  return openProgram(bunCommand(), options);
}
