// Runs the `sanderling` program: progress goes through to the terminal, the JSON result comes back.
import { spawn } from 'node:child_process';
import { join } from 'node:path';

const TARGET = process.env.CARGO_TARGET_DIR ?? 'target';
export const PROGRAM = process.env.SANDERLING_PROGRAM ?? join(TARGET, 'debug', 'sanderling');

function run(args, accepted) {
  return new Promise((resolve, reject) => {
    const child = spawn(PROGRAM, [...args.map(String), '--json'], { stdio: ['ignore', 'pipe', 'inherit'] });
    let out = '';
    child.stdout.setEncoding('utf8').on('data', (text) => (out += text));
    child.once('error', reject);
    child.once('close', (code) => {
      if (!accepted.includes(code)) return reject(new Error(`sanderling ${args.join(' ')} ended with ${code}`));
      resolve(JSON.parse(out));
    });
  });
}

/** Runs a command that must end with 0. */
export const sanderling = (...args) => run(args, [0]);
/** Runs a command that may find something wanting (1); the caller looks at the result. */
sanderling.judging = (...args) => run(args, [0, 1]);

/** Starts a collector on a free port, and another one for administrators where a file with their token is given; shared sessions are taken if asked for. */
export async function collect({ store, bundle, origins, tokenFile, acceptSessions = false, env = {} }) {
  const allowed = origins.flatMap((origin) => ['--allow-origin', origin]);
  const admin = tokenFile === undefined ? [] : ['--admin-listen', '127.0.0.1:0', '--admin-token-file', tokenFile];
  const sessions = acceptSessions ? ['--accept-sessions'] : [];
  const args = ['collect', '--store', store, '--bundle', bundle, '--listen', '127.0.0.1:0', ...admin, ...allowed, ...sessions, '--json'];
  const child = spawn(PROGRAM, args, { stdio: ['ignore', 'pipe', 'inherit'], env: { ...process.env, ...env } });
  const ended = new Promise((resolve) => child.once('close', resolve));
  const { url, admin_url: adminUrl } = await new Promise((resolve, reject) => {
    child.stdout.setEncoding('utf8').once('data', (text) => resolve(JSON.parse(text)));
    child.once('error', reject);
    child.once('close', (code) => reject(new Error(`the collector ended with ${code}`)));
  });
  return {
    url,
    adminUrl,
    async stop() {
      child.kill('SIGTERM');
      await ended;
    },
  };
}
