// Training against a peer on the same machine, one after the other: `node training.mjs [--race ml-1m|amazon-beauty|ease]
// [--budget SECONDS] [--bf16 0|1]`. The peers are peers/sasrec_torch.py (PyTorch, the same model shape and loss) and
// peers/ease_numpy.py, run by the interpreter that SANDERLING_PEER_PYTHON names, which needs torch, numpy and scipy. Prints
// wall and CPU seconds (for sequence models: until test NDCG@10 passes the target) and peak memory, as figures and
// ratios. Nothing else should run meanwhile. Exits 1 when we need more than half of what the peer needs.
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

import { sanderling } from '../../www/demo/cli.mjs';

const here = (path) => fileURLToPath(new URL(path, import.meta.url));

const { values: flags } = parseArgs({
  options: {
    race: { type: 'string', default: 'ml-1m' },
    bf16: { type: 'string', default: '1' },
    budget: { type: 'string' },
    out: { type: 'string', default: here('../../build/quality') },
  },
});

const TORCH = {
  script: 'sasrec_torch.py',
  name: 'PyTorch, the same model shape and loss',
  args: ['--heads', '2', '--lr', '2e-3', '--cosine', '1', '--loss', 'sce', '--negs', '1024', '--eval-every', '20', '--bf16', flags.bf16],
};
const NUMPY = { script: 'ease_numpy.py', name: 'EASE by numpy, the better of its penalties', args: [] };

/** What each race trains on, our recipe, the peer, and what we may need half of; `target` is the test NDCG@10 to pass. */
const RACES = {
  'ml-1m': {
    data: 'ml-1m', target: 0.1728, recipe: '[model]\nmax_epochs = 6\n', peer: TORCH, halves: ['wall', 'cpu'],
    args: ['--maxlen', '200', '--dropout', '0.2', '--batch', '64', '--budget', flags.budget ?? '2000'],
  },
  'amazon-beauty': {
    data: 'amazon-beauty', target: 0.0505, recipe: '[model]\nmax_epochs = 16\n', peer: TORCH, halves: ['wall', 'cpu'],
    args: ['--maxlen', '50', '--dropout', '0.4', '--batch', '128', '--budget', flags.budget ?? '420'],
  },
  ease: { data: 'amazon-beauty', recommender: 'ease', recipe: 'recommender = "ease"\n', peer: NUMPY, halves: ['cpu', 'megabytes'], args: [] },
};

/** Runs the peer to its end; its final figures. */
function runPeer(sequences, { peer, args, target }) {
  const python = process.env.SANDERLING_PEER_PYTHON;
  if (python === undefined) throw new Error('SANDERLING_PEER_PYTHON names no interpreter with torch, numpy and scipy');
  const end = target === undefined ? [] : ['--stop-at', String(target)];
  const all = [here(`peers/${peer.script}`), '--data', sequences, ...peer.args, ...args, ...end];
  const child = spawn(python, all, { stdio: ['ignore', 'pipe', 'inherit'] });
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

/** Our figures: the whole command, evaluation on the test part and the baselines included. */
async function runOurs(race) {
  const data = join(flags.out, race.data);
  await sanderling('import', '--from', race.data, join(process.env.SANDERLING_DATA, race.data), '--out', data);
  const recipe = join(flags.out, 'race.toml');
  await writeFile(recipe, race.recipe);
  const out = join(flags.out, 'race');
  const trained = await sanderling('train', data, '--recipe', recipe, '--split', 'leave-one-out', '--out', out);
  const rate = trained.tokens > 0 ? trained.tokens / trained.fit_wall_seconds : undefined;
  const baseline = trained.baselines[race.recommender]?.['ndcg@10'];
  if (baseline !== undefined) {
    const { value, low, high } = baseline;
    console.log(`   the weights alone, without ranker: NDCG@10 ${value.toFixed(4)} (${low.toFixed(4)}-${high.toFixed(4)})`);
  }
  return {
    alone: baseline,
    ndcg: trained.metrics['ndcg@10'].value, wall: trained.wall_seconds, cpu: trained.cpu_seconds, rate,
    megabytes: trained.peak_rss_bytes / 1e6,
  };
}

const words = ({ ndcg, wall, cpu, rate, megabytes }) =>
  `   NDCG@10 ${ndcg.toFixed(4)} after ${wall.toFixed(0)} s wall, ${cpu.toFixed(0)} CPU s; ` +
  `${rate === undefined ? '' : `${rate.toFixed(0)} tokens/s; `}${megabytes.toFixed(0)} MB`;

const race = RACES[flags.race];
if (race === undefined || process.env.SANDERLING_DATA === undefined) {
  console.error(`--race is one of ${Object.keys(RACES).join(', ')}, and SANDERLING_DATA names the folder that holds the data`);
  process.exit(2);
}
await mkdir(flags.out, { recursive: true });
console.log(`== ${flags.race}: sanderling, the whole command with its evaluation`);
const ours = await runOurs(race);
console.log(words(ours));

console.log(`== ${race.peer.name}, without its evaluation`);
const found = await runPeer(join(process.env.SANDERLING_DATA, race.data, 'sequences.txt.xz'), race);
const theirs = {
  ndcg: found.test_ndcg10, wall: found.train_s, cpu: found.train_cpu_s, rate: found.tokens_per_s,
  megabytes: found.peak_rss_mb * 1.048576,
};
console.log(words(theirs));

const ratio = (name) => (ours[name] / theirs[name]).toFixed(3);
const rates = ours.rate === undefined || theirs.rate === undefined ? '' : `, tokens/s ${ratio('rate')}`;
console.log(`== ratios, ours to the peer's: wall ${ratio('wall')}, CPU ${ratio('cpu')}, memory ${ratio('megabytes')}${rates}`);
let reached = true;
if (race.target !== undefined) {
  const passed = ({ ndcg }) => (ndcg >= race.target ? 'passed' : 'did not pass');
  console.log(`   NDCG@10 ${race.target}: we ${passed(ours)}, the peer ${passed(theirs)}`);
  reached = ours.ndcg >= race.target;
}
if (ours.alone !== undefined) {
  reached = theirs.ndcg <= ours.alone.high;
  console.log(`   the peer's NDCG@10 is ${reached ? 'not above' : 'ABOVE'} the interval of our weights alone`);
}
process.exitCode = reached && race.halves.every((name) => ours[name] < theirs[name] / 2) ? 0 : 1;
