// The data pipeline on made-up interactions: `node pipeline.mjs [--interactions 10000000] [--out DIR] [--max-gib 8]`.
// Writes a CSV file ordered by time (a row at a time; nothing is kept), imports it, validates the data folder, and
// divides it into sequences as `train` does. Prints seconds, rows a second and peak memory of each step; exits 1 when a
// step takes more memory than allowed. Everything it wrote is removed at the end. 100 million interactions take about
// 9 GB on the disk.
import { once } from 'node:events';
import { createWriteStream } from 'node:fs';
import { mkdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

import { sanderling } from '../../www/demo/cli.mjs';

const { values: flags } = parseArgs({
  options: {
    interactions: { type: 'string', default: '10000000' },
    'max-gib': { type: 'string', default: '8' },
    out: { type: 'string', default: fileURLToPath(new URL('../../build/pipeline', import.meta.url)) },
  },
});

const numInteractions = Number(flags.interactions);
const numUsers = Math.max(2, Math.ceil(numInteractions / 50));
const numItems = Math.max(10, Math.min(1_000_000, Math.ceil(numInteractions / 100)));
const START = 1_700_000_000;
const SECONDS = 180 * 86_400;
const KINDS = ['view', 'view', 'view', 'cart', 'purchase'];

/** Numbers in [0, 1) that are the same in every run (mulberry32). */
function chance(seed) {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Users and items with a long tail, all users mixed in time, as a shop's log has them. */
async function generate(file) {
  const random = chance(1);
  const out = createWriteStream(file, { highWaterMark: 1 << 22 });
  let chunk = 'user_id,item_id,kind,timestamp\n';
  for (let row = 0; row < numInteractions; row += 1) {
    const user = Math.floor(numUsers * random() ** 1.5);
    const item = Math.floor(numItems * random() ** 3);
    const time = START + Math.floor((row / numInteractions) * SECONDS);
    chunk += `u${user},p${item},${KINDS[Math.floor(random() * KINDS.length)]},${time}\n`;
    if (chunk.length > 1 << 20) {
      if (!out.write(chunk)) await once(out, 'drain');
      chunk = '';
    }
  }
  out.end(chunk);
  await once(out, 'close');
}

const gib = (bytes) => (bytes / 2 ** 30).toFixed(2);

/** Runs one step and prints what it cost; whether it kept to the memory. */
async function step(name, ...args) {
  const result = await sanderling.judging(...args);
  const { wall_seconds: wall, cpu_seconds: cpu, peak_rss_bytes: peak } = result;
  const rate = (numInteractions / wall / 1e6).toFixed(2);
  const held = peak <= Number(flags['max-gib']) * 2 ** 30;
  const verdict = held ? '' : `  MORE THAN ${flags['max-gib']} GiB`;
  console.log(`   ${name.padEnd(26)} ${wall.toFixed(0)} s  ${cpu.toFixed(0)} CPU s  ${rate} million rows/s  ${gib(peak)} GiB${verdict}`);
  return { held, result };
}

await mkdir(flags.out, { recursive: true });
const log = join(flags.out, 'log.csv');
const data = join(flags.out, 'data');
try {
  console.log(`== ${numInteractions} interactions of ${numUsers} users with ${numItems} items`);
  const start = Date.now();
  await generate(log);
  console.log(`   generated in ${((Date.now() - start) / 1000).toFixed(0)} s, ${gib((await stat(log)).size)} GiB`);
  const imported = await step('import', 'import', '--from', 'csv', log, '--out', data);
  await rm(log);
  const now = String(START + 2 * SECONDS);
  const validated = await step('validate', 'validate', data, '--now', now);
  const divided = await step('validate, then divide', 'validate', data, '--now', now, '--split', 'time');
  console.log(`   ${JSON.stringify(divided.result.division)}`);
  const counts = [imported, validated, divided].map(({ result }) => result.num_interactions);
  const complete = counts.every((count) => count === numInteractions);
  if (!complete) console.log(`   rows are missing: ${counts.join(', ')}`);
  process.exitCode = complete && [imported, validated, divided].every(({ held }) => held) ? 0 : 1;
} finally {
  await rm(flags.out, { recursive: true, force: true });
}
