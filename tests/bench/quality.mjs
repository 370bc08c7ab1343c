// Quality of exported bundles on public data: `node quality.mjs [--data ml-1m,amazon-beauty] [--seeds 1,2,3] [--out DIR]`.
// Reads the folders of SANDERLING_DATA, trains with the defaults and a byte budget, and prints what the packed bundle
// reaches on the test part, seed by seed, beside the floor that this repository promises. Exits 1 below a floor.
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs, promisify } from 'node:util';

import { sanderling } from '../../www/demo/cli.mjs';

/** Protocol, byte budget, floors (mean over the seeds) and, where a protocol has them, the file of candidates of each data set. */
const DATA_SETS = [
  { name: 'ml-1m', split: 'leave-one-out', maxBytes: 500_000, floors: { 'ndcg@10': 0.183, 'hr@10': 0.316 } },
  { name: 'amazon-beauty', split: 'leave-one-out', maxBytes: 1_000_000, floors: { 'ndcg@10': 0.051, 'hr@10': 0.084 } },
  { name: 'diginetica', split: 'next-click', maxBytes: 4_000_000, floors: { 'precision@20': 0.53, 'mrr@20': 0.185 } },
  {
    name: 'ml-1m-ncf100', split: 'leave-one-out', maxBytes: 500_000, floors: { 'hr@10': 0.715, 'ndcg@10': 0.449 },
    negatives: 'ml-1m.test.negative.xz',
  },
  { name: 'ml-100k', split: 'time', maxBytes: 500_000, floors: {} },
];

const { values: flags } = parseArgs({
  options: {
    data: { type: 'string', default: DATA_SETS.map(({ name }) => name).join(',') },
    seeds: { type: 'string', default: '1,2,3' },
    out: { type: 'string', default: fileURLToPath(new URL('../../build/quality', import.meta.url)) },
  },
});

const seeds = flags.seeds.split(',').map(Number);
const wanted = flags.data.split(',');
const source = process.env.SANDERLING_DATA;
const four = (value) => value.toFixed(4);

/** Writes the `(user,item)<tab>negative<tab>…` lines of the NCF protocol as `user_id,item_id` rows. */
async function writeCandidates(from, to) {
  const { stdout } = await promisify(execFile)('xz', ['-dc', from], { maxBuffer: 1 << 26 });
  const rows = stdout.trim().split('\n').flatMap((line) => {
    const [pair, ...negatives] = line.split('\t');
    const [user] = pair.slice(1, -1).split(',');
    return negatives.map((item) => `${user},${item}`);
  });
  await writeFile(to, `user_id,item_id\n${rows.join('\n')}\n`);
}

/** Trains one bundle; the numbers are those of the packed bundle run by the engine. */
async function train({ name, split, maxBytes, negatives }, seed) {
  const data = join(flags.out, name);
  const bundle = join(flags.out, `${name}-${seed}`);
  const trained = await sanderling('train', data, '--split', split, '--seed', seed, '--max-bundle-bytes', maxBytes, '--out', bundle);
  if (negatives === undefined) return trained;
  const candidates = join(flags.out, `${name}-candidates.csv`);
  await writeCandidates(join(source, name, negatives), candidates);
  const { metrics, baselines } = await sanderling('evaluate', bundle, data, '--split', split, '--among', candidates);
  return { ...trained, metrics, baselines };
}

function show(seed, result, keys) {
  const metrics = keys.map((key) => {
    const { value, low, high } = result.metrics[key];
    return `${key} ${four(value)} (${four(low)}-${four(high)})`;
  });
  const { bundle_bytes: bytes, cpu_seconds: cpu, wall_seconds: wall, peak_rss_bytes: rss, quantisation: q } = result;
  const loss = (1 - q.ndcg10_packed / q.ndcg10_f32) * 100;
  console.log(
    `   seed ${seed}  ${metrics.join('  ')}  ${bytes} bytes  ${cpu.toFixed(0)} CPU s  ${wall.toFixed(0)} s  ` +
      `${(rss / 1e6).toFixed(0)} MB  ${result.epochs} epochs  packing costs ${loss.toFixed(1)} %`,
  );
}

/** Mean, smallest and largest over the seeds, and whether the mean reaches its floor. */
function judge(key, floor, results) {
  const values = results.map((result) => result.metrics[key].value);
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  const held = floor === undefined || mean >= floor;
  const verdict = floor === undefined ? '' : `  floor ${floor}  ${held ? 'holds' : 'MISSED'}`;
  console.log(`   ${key} mean ${four(mean)}, ${four(Math.min(...values))} to ${four(Math.max(...values))}${verdict}`);
  return held;
}

async function measure(dataSet) {
  const { name, split, floors } = dataSet;
  console.log(`== ${name}, ${split}, at most ${dataSet.maxBytes} bytes`);
  await sanderling('import', '--from', name, join(source, name), '--out', join(flags.out, name));
  const keys = Object.keys(floors).length > 0 ? Object.keys(floors) : ['ndcg@10', 'hr@10'];
  const results = [];
  for (const seed of seeds) {
    results.push(await train(dataSet, seed));
    show(seed, results.at(-1), keys);
  }
  for (const [baseline, metrics] of Object.entries(results[0].baselines)) {
    console.log(`   ${baseline}  ${keys.map((key) => `${key} ${four(metrics[key].value)}`).join('  ')}`);
  }
  await writeFile(join(flags.out, `${name}.json`), `${JSON.stringify(results, null, 1)}\n`);
  return keys.map((key) => judge(key, floors[key], results)).every(Boolean);
}

if (source === undefined || !existsSync(source)) {
  console.error('SANDERLING_DATA does not name a folder; see README.md');
  process.exit(2);
}
await mkdir(flags.out, { recursive: true });
let held = true;
for (const dataSet of DATA_SETS.filter(({ name }) => wanted.includes(name))) {
  held = (await measure(dataSet)) && held;
}
process.exitCode = held ? 0 : 1;
