import { spawn } from 'node:child_process';
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { text } from 'node:stream/consumers';

const EXECUTE = new URL('execute.mjs', import.meta.url).href;

/** A module that runs operations; its names and operations come as JSON on standard input. */
const RUNNER = `
  import { readFile } from 'node:fs/promises';
  import process from 'node:process';
  import { json } from 'node:stream/consumers';
  import * as sanderling from 'sanderling';
  import { execute } from ${JSON.stringify(EXECUTE)};
  const { paths, operations } = await json(process.stdin);
  const contents = Object.entries(paths).map(async ([name, path]) => [name, new Uint8Array(await readFile(path))]);
  console.log(JSON.stringify(await execute(sanderling, Object.fromEntries(await Promise.all(contents)), operations)));
`;

/** Opens a program that runs JavaScript as a runtime for operations; the command gets the path of a module as its last argument. */
export async function openProgram(command, { project, bundle }) {
  const paths = Object.fromEntries((await readdir(bundle)).map((name) => [name, resolve(bundle, name)]));
  const run = async (operations) => JSON.parse(await runModule(command, project, RUNNER, JSON.stringify({ paths, operations })));
  return { run, close: async () => {} };
}

/** Runs a module in a project, as one of its own files, and gives what it prints. */
export async function runModule([program, ...args], project, source, input = '') {
  const folder = await mkdtemp(join(project, 'module-'));
  try {
    const path = join(folder, 'module.mjs');
    await writeFile(path, source);
    // The caches of these programs are of no use to anybody else.
    const env = { ...process.env, NO_COLOR: '1', DO_NOT_TRACK: '1', DENO_NO_UPDATE_CHECK: '1', DENO_DIR: folder };
    const child = spawn(program, [...args, path], { cwd: project, env });
    child.stdin.end(input);
    const [printed, complaints, status] = await Promise.all([
      text(child.stdout), text(child.stderr), new Promise((resolve, reject) => child.on('error', reject).on('close', resolve)),
    ]);
    if (status !== 0) throw new Error(`${program} ended with ${status}: ${complaints}`);
    return printed;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
