// `./build.sh bench loop [--write] [--users N] [--devices N]`: a world whose tastes change on day 30, lived through a week at a time. Real devices (the package in
// Node) report to a real collector; `sanderling retrain --channel` makes one check a week and does the rest by itself. Then the first retraining is done again with
// forged reports. Exits 1 when a floor is missed; --write puts the tables into docs/telemetry.md.
import { createHash } from 'node:crypto';
import { copyFile, mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

import { collect, sanderling } from '../../www/demo/cli.mjs';
import { runDevices } from '../../www/tools/devices.mjs';

const DAY = 86_400;
const SHIFT_DAY = 30;
const [FIRST_CHECK, LAST_CHECK, WEEK] = [37, 79, 7];
/** Days of logs that a challenger is trained on. */
const MEMORY_DAYS = 28;
const CANARY_SHARE = 0.5;
const LIARS = 0.2;
const RECOVERY = 0.8;

const { values: flags } = parseArgs({ options: { write: { type: 'boolean' }, users: { type: 'string', default: '2000' }, devices: { type: 'string', default: '9000' } } });
const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const out = here('../../build/loop');
const file = (name) => join(out, name);
const lines = [];
const say = (line) => {
  console.log(line);
  lines.push(line);
};

/** The collector's clock is real, so the world ends yesterday. */
const START = (Math.floor(Date.now() / 1000 / DAY) - LAST_CHECK - 1) * DAY;
const RECIPE = here('../../www/demo/sanderling.toml');
const drift = ['--drift-day', SHIFT_DAY, '--drift-strength', 1];
const synth = (...args) => sanderling('synth', '--start', START, ...args);
const ndcg = async (bundle, data) => (await sanderling('evaluate', bundle, data)).metrics['ndcg@10'];

async function makeWorlds() {
  const world = ['--users', flags.users];
  await synth(...world, '--days', SHIFT_DAY, '--out', file('logs'));
  const later = ['--days', 90, '--first-day', SHIFT_DAY];
  await synth(...world, ...later, '--out', file('old-truth'));
  await synth(...world, ...later, ...drift, '--out', file('new-truth'));
}

/** A week of devices, each of which loads what the channel says; counts of their reports. */
async function week(day) {
  await synth('--users', flags.devices, '--days', day, '--device-days', `${day - WEEK}:${day}`, ...drift, '--out', file('fleet'));
  const channel = JSON.parse(await readFile(file('live/channel.json'), 'utf8'));
  const devices = (await readFile(file('fleet/devices.jsonl'), 'utf8')).trim().split('\n');
  const share = channel.canary?.share ?? 0;
  const drawn = (at) => Math.floor((at + 1) * share) > Math.floor(at * share);
  const collector = await collect({ store: file('reports.db'), bundle: file('champion'), origins: [] });
  const reports = {};
  try {
    for (const [arm, release] of [['champion', channel.champion], ['canary', channel.canary?.release]]) {
      if (release === undefined) continue;
      await writeFile(file('arm.jsonl'), devices.filter((_, at) => drawn(at) === (arm === 'canary')).join('\n'));
      const totals = await runDevices({ bundle: join(file('live'), release.path), devices: file('arm.jsonl'), collector: collector.url, requests: 1 });
      if (totals.rejected > 0 || totals.waiting > 0) throw new Error(`reports were not delivered: ${JSON.stringify(totals)}`);
      reports[arm] = totals.acknowledged;
    }
  } finally {
    await collector.stop();
  }
  return reports;
}

const check = (day) =>
  sanderling.judging('retrain', file('fresh'), '--channel', file('live'), '--store', file('reports.db'), '--recipe', RECIPE, '--key', file('shop.key'),
    '--now', START + day * DAY, '--canary-share', CANARY_SHARE, '--max-age-days', 14, '--cool-down-days', WEEK);

async function live() {
  say('| day | reports of champion, canary | decision | reason |\n|---:|---:|---|---|');
  const decisions = [];
  for (let day = FIRST_CHECK; day <= LAST_CHECK; day += WEEK) {
    const reports = await week(day);
    await synth('--users', flags.users, '--days', day, '--first-day', Math.max(0, day - MEMORY_DAYS), ...drift, '--out', file('fresh'));
    if (day === FIRST_CHECK) await copyFile(file('reports.db'), file('poisoned.db'));
    const checked = await check(day);
    decisions.push({ day, ...checked });
    say(`| ${day} | ${reports.champion}, ${reports.canary ?? '-'} | ${checked.decision ?? 'none'} | ${checked.reason.slice(0, 180)} |`);
    if (day === FIRST_CHECK) await poison(checked, reports.champion);
  }
  return decisions;
}

/** The first retraining once more, after one in five reports was forged to say that everybody wants one category. */
const categoryShares = ({ categories }) => Object.fromEntries(Object.entries(categories).map(([name, { value }]) => [name, value]));

async function poison(clean, honest) {
  const bytes = await readFile(file('champion/manifest.json'));
  const manifest = JSON.parse(bytes);
  const bundle_sha256 = createHash('sha256').update(bytes).digest('hex');
  const baseline = JSON.parse(await readFile(file('champion/baseline.json'), 'utf8'));
  const { bins } = baseline.fields.find(({ name }) => name === 'interaction.category');
  const { telemetry } = manifest;
  const collector = await collect({ store: file('poisoned.db'), bundle: file('champion'), origins: [] });
  const forged = Math.round((honest * LIARS) / (1 - LIARS));
  try {
    for (let number = 0; number < forged; number += 1) {
      const report = {
        format_version: 1, report_id: `e${number.toString(16).padStart(31, '0')}`, bundle_sha256, window_start: START + (FIRST_CHECK - 1 - (number % WEEK)) * DAY,
        window_seconds: telemetry.window_seconds, epsilon: telemetry.epsilon, observations: [{ field: 'interaction.category', bin: bins.labels.length - 3 }], padding: '',
      };
      report.padding = ' '.repeat(telemetry.report_bytes - JSON.stringify(report).length);
      const answer = await fetch(`${collector.url}/v1/reports`, { method: 'POST', body: JSON.stringify(report) });
      if (answer.status !== 201) throw new Error(`a forged report was answered with ${answer.status}: ${await answer.text()}`);
    }
  } finally {
    await collector.stop();
  }
  await rm(file('poisoned'), { recursive: true, force: true });
  const result = await sanderling.judging('retrain', file('fresh'), '--champion', file('champion'), '--store', file('poisoned.db'), '--recipe', RECIPE, '--out', file('poisoned'));
  poisoned = { forged, honest, promote: result.gate.promote, shares: categoryShares(result.reported), clean: categoryShares(clean.evidence.reported) };
  if (poisoned.promote) poisoned.ndcg = await ndcg(file('poisoned'), file('new-truth'));
  if (clean.decision === 'canary') poisoned.clean_ndcg = await ndcg(join(file('live'), clean.channel.canary.release.path), file('new-truth'));
}

let poisoned;
await rm(out, { recursive: true, force: true });
await mkdir(out, { recursive: true });
await makeWorlds();
await sanderling('train', file('logs'), '--recipe', RECIPE, '--out', file('champion'));
await sanderling('keygen', '--out', file('shop.key'));
await sanderling('sign', file('champion'), '--key', file('shop.key'));
await sanderling('promote', file('champion'), '--channel', file('live'), '--now', START + SHIFT_DAY * DAY);
say(`### A world whose tastes change on day 30: ${flags.users} users in the logs, ${flags.devices} devices\n`);
const decisions = await live();
const { champion } = decisions.at(-1).channel;
const [before, after] = [await ndcg(file('champion'), file('old-truth')), await ndcg(file('champion'), file('new-truth'))];
const recovered = await ndcg(join(file('live'), champion.path), file('new-truth'));
const recovery = (recovered.value - after.value) / (before.value - after.value);
const metric = ({ value, low, high }) => `${value.toFixed(4)} (${low.toFixed(4)} to ${high.toFixed(4)})`;
const held = [];
const floor = (what, found, bound, holds) => {
  held.push(holds);
  return `| ${what} | ${found} | ${bound} | ${holds ? 'holds' : 'MISSED'} |`;
};
say('\n| what | found | floor | |\n|---|---|---|---|');
const kinds = decisions.map(({ decision }) => decision);
const first = decisions[0];
say(floor('drift is seen and a challenger is on trial a week after', `${first.decision}: ${first.reason}`, 'canary, by drift', first.decision === 'canary' && first.reason.includes('drift')));
say(floor('it is promoted without a hand', kinds.map((kind) => kind ?? 'none').join(', '), 'promote', kinds.includes('promote')));
say(`| NDCG@10 of the first champion, old tastes | ${metric(before)} | | |\n| the same, new tastes | ${metric(after)} | | |\n| NDCG@10 of the last champion, new tastes | ${metric(recovered)} | | |`);
say(floor('part of the loss that came back', `${(recovery * 100).toFixed(0)} %`, `≥ ${RECOVERY * 100} %`, recovery >= RECOVERY));
const harm = poisoned.promote && poisoned.clean_ndcg ? poisoned.clean_ndcg.value - poisoned.ndcg.value : 0;
const fate = poisoned.promote ? `passed the gate; NDCG@10 ${metric(poisoned.ndcg)} against ${metric(poisoned.clean_ndcg)} without them` : 'refused by the gate';
say(floor(`${poisoned.forged} forged reports beside ${poisoned.honest} honest ones, all for one category`, fate, 'refused, or a loss under 0.01', harm < 0.01));
if (flags.write) {
  const page = here('../../docs/telemetry.md');
  const [start, end] = ['<!-- tables of bench loop -->', '<!-- end of bench loop -->'];
  const text = await readFile(page, 'utf8');
  await writeFile(page, `${text.slice(0, text.indexOf(start) + start.length)}\n\n${lines.join('\n')}\n\n${text.slice(text.indexOf(end))}`);
}
process.exitCode = held.every(Boolean) ? 0 : 1;
