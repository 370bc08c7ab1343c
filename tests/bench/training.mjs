// Training against PyTorch on the same machine, one after the other: `node training.mjs [--data ml-1m] [--budget SECONDS]
// [--bf16 0|1]`. PyTorch runs peers/sasrec_torch.py (the same model shape and loss) with the interpreter named by
// SANDERLING_PEER_PYTHON, which needs torch and numpy. Prints wall and CPU seconds until test NDCG@10 passes the target,
// tokens a second and peak memory, as figures and ratios. Nothing else should run meanwhile.
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

import { sanderling } from '../../www/demo/cli.mjs';

const here = (path) => fileURLToPath(new URL(path, import.meta.url));

/** Test NDCG@10 to pass, our passes over the data that are enough for it, and the peer's settings. */
const RACES = {
  'ml-1m': { target: 0.1728, epochs: 9, peer: ['--maxlen', '200', '--dropout', '0.2', '--batch', '64', '--budget', '2000'] },
  'amazon-beauty': { target: 0.0505, epochs: 30, peer: ['--maxlen', '50', '--dropout', '0.4', '--batch', '128', '--budget', '420'] },
};
const PEER_SETTINGS = ['--heads', '2', '--lr', '2e-3', '--cosine', '1', '--loss', 'sce', '--negs', '1024', '--eval-every', '20'];

const { values: flags } = parseArgs({
  options: {
    data: { type: 'string', default: 'ml-1m' },
    bf16: { type: 'string', default: '1' },
    budget: { type: 'string' },
    out: { type: 'string', default: here('../../build/quality') },
  },
});

/** Runs the peer until it passes the target or its budget ends; its final figures. */
function runPeer(sequences, { target, peer }) {
  const python = process.env.SANDERLING_PEER_PYTHON;
  if (python === undefined) throw new Error('SANDERLING_PEER_PYTHON names no interpreter with torch and numpy');
  const budget = flags.budget === undefined ? [] : ['--budget', flags.budget];
  const ends = [...budget, '--stop-at', target, '--bf16', flags.bf16].map(String);
  const args = [here('peers/sasrec_torch.py'), '--data', sequences, ...PEER_SETTINGS, ...peer, ...ends];
  const child = spawn(python, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  let result;
  createInterface({ input: child.stdout }).on('line', (line) => {
    console.log(`   ${line.slice(0, 160)}`);
    if (line.startsWith('RESULT ')) result = JSON.parse(line.slice('RESULT '.length));
  });
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code) => (code === 0 ? resolve(result) : reject(new Error(`the peer ended with ${code}`))));
  });
}

const race = RACES[flags.data];
if (race === undefined || process.env.SANDERLING_DATA === undefined) {
  console.error(`--data is one of ${Object.keys(RACES).join(', ')}, and SANDERLING_DATA names the folder that holds it`);
  process.exit(2);
}
await mkdir(flags.out, { recursive: true });
const data = join(flags.out, flags.data);
await sanderling('import', '--from', flags.data, join(process.env.SANDERLING_DATA, flags.data), '--out', data);
const recipe = join(flags.out, 'race.toml');
await writeFile(recipe, `[model]\nmax_epochs = ${race.epochs}\n`);

console.log(`== ${flags.data}: sanderling, ${race.epochs} passes`);
const ours = await sanderling('train', data, '--recipe', recipe, '--split', 'leave-one-out', '--out', join(flags.out, 'race'));
const ourNdcg = ours.metrics['ndcg@10'].value;
const ourRate = ours.tokens / ours.fit_wall_seconds;
console.log(`   NDCG@10 ${ourNdcg.toFixed(4)} after ${ours.wall_seconds.toFixed(0)} s wall, ${ours.cpu_seconds.toFixed(0)} CPU s, evaluation included; ` +
  `${ourRate.toFixed(0)} tokens/s; ${(ours.peak_rss_bytes / 1e6).toFixed(0)} MB`);

console.log('== PyTorch, the same model shape and loss');
const peer = await runPeer(join(process.env.SANDERLING_DATA, flags.data, 'sequences.txt.xz'), race);
const { train_s: wall, train_cpu_s: cpu, tokens_per_s: rate, peak_rss_mb: rss, test_ndcg10: ndcg } = peer;
console.log(`   NDCG@10 ${ndcg.toFixed(4)} after ${wall.toFixed(0)} s wall, ${cpu.toFixed(0)} CPU s, evaluation left out; ` +
  `${rate.toFixed(0)} tokens/s; ${rss.toFixed(0)} MB`);
const ratio = (ours, peers) => (ours / peers).toFixed(3);
console.log(`== ratios, ours to PyTorch's: tokens/s ${ratio(ourRate, rate)}, memory ${ratio(ours.peak_rss_bytes / 1e6, rss)}`);
const passed = (value) => (value >= race.target ? 'passed' : 'did not pass');
if (ourNdcg >= race.target && ndcg >= race.target) {
  console.log(`   until NDCG@10 ${race.target}: wall ${ratio(ours.wall_seconds, wall)}, CPU ${ratio(ours.cpu_seconds, cpu)}`);
} else {
  console.log(`   NDCG@10 ${race.target}: we ${passed(ourNdcg)}, PyTorch ${passed(ndcg)}`);
}
process.exitCode = ourNdcg >= race.target && ours.wall_seconds < wall / 2 ? 0 : 1;
