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

/**
 * Data set (a folder of SANDERLING_DATA), protocol, byte budget, floors (mean over the seeds), candidates where a protocol has
 * them, and whether the interval of NDCG@10 has to lie above that of every baseline (with the first seed).
 */
const CHECKS = [
  { name: 'ml-1m', split: 'leave-one-out', maxBytes: 500_000, floors: { 'ndcg@10': 0.183, 'hr@10': 0.316 } },
  { name: 'amazon-beauty', split: 'leave-one-out', maxBytes: 1_000_000, floors: { 'ndcg@10': 0.051, 'hr@10': 0.084 } },
  { name: 'diginetica', split: 'next-click', maxBytes: 4_000_000, floors: { 'precision@20': 0.53, 'mrr@20': 0.185 } },
  {
    name: 'ml-1m-ncf100', split: 'leave-one-out', maxBytes: 500_000, floors: { 'hr@10': 0.715, 'ndcg@10': 0.449 },
    negatives: 'ml-1m.test.negative.xz',
  },
  { name: 'ml-100k', split: 'time', recommender: 'auto', beatsBaselines: true },
  { name: 'ml-1m-cold', data: 'ml-1m', split: 'held-out-items', among: 'untouched', beatsBaselines: true },
  { name: 'amazon-beauty-cold', data: 'amazon-beauty', split: 'held-out-items', among: 'untouched', beatsBaselines: true },
];

const { values: flags } = parseArgs({
  options: {
    data: { type: 'string', default: CHECKS.map(({ name }) => name).join(',') },
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
async function train({ name, data: folder = name, split, recommender = 'sequence', maxBytes, negatives, among }, seed) {
  const data = join(flags.out, folder);
  const bundle = join(flags.out, `${name}-${seed}`);
  const budget = maxBytes === undefined ? [] : ['--max-bundle-bytes', maxBytes];
  const how = ['--split', split, '--recommender', recommender, '--seed', seed, ...budget];
  const trained = await sanderling('train', data, ...how, '--out', bundle);
  if (negatives === undefined && among === undefined) return trained;
  const candidates = among ?? join(flags.out, `${name}-candidates.csv`);
  if (negatives !== undefined) await writeCandidates(join(source, folder, negatives), candidates);
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

/** Whether the interval of NDCG@10 lies above those of all baselines. */
function judgeBaselines({ metrics, baselines }) {
  const { low } = metrics['ndcg@10'];
  const most = Math.max(...Object.values(baselines).map((metrics) => metrics['ndcg@10'].high));
  const held = low > most;
  console.log(`   ndcg@10 at least ${four(low)}, baselines at most ${four(most)}  ${held ? 'above them' : 'NOT ABOVE THEM'}`);
  return held;
}

async function measure(check) {
  const { name, data = name, split, floors = {}, maxBytes, beatsBaselines } = check;
  console.log(`== ${name}, ${split}${maxBytes === undefined ? '' : `, at most ${maxBytes} bytes`}`);
  await sanderling('import', '--from', data, join(source, data), '--out', join(flags.out, data));
  const keys = Object.keys(floors).length > 0 ? Object.keys(floors) : ['ndcg@10', 'hr@10'];
  const results = [];
  for (const seed of seeds) {
    results.push(await train(check, seed));
    show(seed, results.at(-1), keys);
  }
  for (const [baseline, metrics] of Object.entries(results[0].baselines)) {
    const words = ({ value, low, high }) => `${four(value)} (${four(low)}-${four(high)})`;
    console.log(`   ${baseline}  ${keys.map((key) => `${key} ${words(metrics[key])}`).join('  ')}`);
  }
  await writeFile(join(flags.out, `${name}.json`), `${JSON.stringify(results, null, 1)}\n`);
  const held = keys.map((key) => judge(key, floors[key], results));
  if (beatsBaselines === true) held.push(judgeBaselines(results[0]));
  return held.every(Boolean);
}

if (source === undefined || !existsSync(source)) {
  console.error('SANDERLING_DATA does not name a folder; see README.md');
  process.exit(2);
}
await mkdir(flags.out, { recursive: true });
let held = true;
for (const check of CHECKS.filter(({ name }) => wanted.includes(name))) {
  held = (await measure(check)) && held;
}
process.exitCode = held ? 0 : 1;
