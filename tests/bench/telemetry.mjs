// `./build.sh bench telemetry [--write] [--reports N]`: how often the drift verdict alarms without drift, which shifts it sees, whether debiased counts
// are right, and how many reports the collector takes. Exits 1 when a floor is missed. --write puts the tables into docs/telemetry.md and the
// curve beside it; with --reports the collector gets that many more, and its memory is noted ten times.
import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs, promisify } from 'node:util';

const { values: flags } = parseArgs({ options: { write: { type: 'boolean' }, reports: { type: 'string', default: '0' } } });
const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const lines = [];
const say = (line) => {
  console.log(line);
  lines.push(line);
};
const held = [];
const floor = (what, found, bound, holds) => {
  held.push(holds);
  return `| ${what} | ${found} | ${bound} | ${holds ? 'holds' : 'MISSED'} |`;
};

async function example(name, ...args) {
  const target = process.env.CARGO_TARGET_DIR ?? here('../../target');
  const running = promisify(execFile)(join(target, 'release/examples', name), args, { maxBuffer: 1 << 24 });
  running.child.stderr.pipe(process.stderr);
  return JSON.parse((await running).stdout);
}

/** The interval that holds 95 % of a binomial variable, exactly, and its probability beside nothing. */
function binomialInterval(n, p) {
  let [probability, sum] = [(1 - p) ** n, 0];
  let [low, high] = [undefined, undefined];
  for (let k = 0; k <= n && high === undefined; k += 1) {
    sum += probability;
    if (low === undefined && sum > 0.025) low = k;
    if (sum >= 0.975) high = k;
    probability *= ((n - k) / (k + 1)) * (p / (1 - p));
  }
  return [low, high];
}

const percent = (value, digits = 1) => `${(value * 100).toFixed(digits)} %`;
const folder = await mkdtemp(join(tmpdir(), 'sanderling-telemetry-'));
try {
  const curveFile = flags.write ? here('../../docs/telemetry-power.svg') : join(folder, 'power.svg');
  const figures = await example('drift_figures', curveFile);
  const { false_alarms: alarms, power, curve, debiasing } = figures;
  const [low, high] = binomialInterval(alarms.windows, alarms.alpha);
  say('### The drift verdict\n\n| what | found | floor | |\n|---|---:|---:|---|');
  say(floor(`alarms in ${alarms.windows} months without drift: ${alarms.fields} fields, ${alarms.devices} devices, epsilon ${alarms.epsilon} a day, alpha ${percent(alarms.alpha, 0)}`,
    alarms.alarms, `${low} to ${high}`, alarms.alarms >= low && alarms.alarms <= high));
  const seen = power.seen_by_month.map((count) => count / power.runs);
  say(floor(`one field of ${alarms.fields} moves by ${power.shift} standard deviations: seen by the end of the first, second and third month, ${power.runs} runs, ${power.devices} devices, epsilon ${power.epsilon} a day`,
    seen.map((share) => percent(share)).join(', '), 'the last ≥ 95 %', seen.at(-1) >= 0.95));
  const z = debiasing.cases.flatMap((one) => one.z);
  const farthest = Math.max(...z.map(Math.abs));
  // The largest of so many normal variables stays under 3.5 in 99 of 100 runs.
  say(floor(`debiased shares: farthest mean of ${debiasing.runs} runs from the truth, standard errors, ${z.length} bins, epsilon ${debiasing.cases.map((one) => one.epsilon).join(', ')}`,
    farthest.toFixed(2), '< 3.5', farthest < 3.5));
  const ratios = debiasing.cases.flatMap((one) => one.variance_ratio);
  const spread = Math.max(...ratios.map((ratio) => Math.abs(ratio - 1)));
  say(floor('their measured variance over that of the formula, the farthest from 1', (1 + spread).toFixed(3), 'within 15.7 % (3.5 standard errors)', spread < 3.5 * Math.sqrt(2 / debiasing.runs)));
  say(`\n### Which shifts are seen within three months\n\n| devices | epsilon a day | ${curve[0].points.map(([shift]) => shift).join(' | ')} |\n|---:|---:|${curve[0].points.map(() => '---:').join('|')}|`);
  for (const { devices, epsilon, points } of curve) say(`| ${devices} | ${epsilon} | ${points.map(([, share]) => percent(share, 0)).join(' | ')} |`);

  const load = await example('collector_load', folder, ...(flags.reports === '0' ? [] : [flags.reports]));
  say(`\n### The collector on SQLite, ${availableParallelism()} cores with the load generator beside it, ${load.connections} connections\n\n| what | found | floor | |\n|---|---:|---:|---|`);
  say(floor('reports a second, each committed to disk before its receipt', load.reports_per_second.toFixed(0), '≥ 5000', load.reports_per_second >= 5000));
  say(floor(`p99 at ${load.half.reports_per_second.toFixed(0)} a second, ms (p50 ${load.half.p50_ms.toFixed(1)})`, load.half.p99_ms.toFixed(1), '≤ 50', load.half.p99_ms <= 50));
  const [[, first], ...later] = load.memory_mib;
  const last = Math.max(...later.slice(-5).map(([, mib]) => mib));
  if (later.length > 0) say(floor(`memory after ${load.memory_mib.at(-1)[0]} reports, MiB (${first.toFixed(0)} after ${load.memory_mib[0][0]})`, last.toFixed(0), 'at most 8 more', last - first <= 8));
  if (flags.write) {
    const page = here('../../docs/telemetry.md');
    const marker = '<!-- tables of bench telemetry -->';
    const [text] = (await readFile(page, 'utf8')).split(marker);
    await writeFile(page, `${text}${marker}\n\n${lines.join('\n')}\n`);
  }
} finally {
  await rm(folder, { recursive: true });
}
process.exitCode = held.every(Boolean) ? 0 : 1;
