// The whole loop on a generated world: `node run.mjs [--once] [--out DIR] [--users N] [--devices N] [--port N]`.
// World, training, evaluation, bundle, check under wasmtime, collector, real devices (the packed engine in Node), a real
// browser, drift verdicts with and without drift, retraining and the gate. Exits 0 only if every step held.
import { randomBytes } from 'node:crypto';
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

import { runDevices } from '../tools/devices.mjs';
import { serve } from '../tools/serve.mjs';
import { playSession } from '../tools/session.mjs';
import { assemble } from '../tools/site.mjs';
import { measure } from '../tools/sizes.mjs';
import { collect, sanderling } from './cli.mjs';
import * as print from './print.mjs';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const RECIPE = fileURLToPath(new URL('sanderling.toml', import.meta.url));
const DAY = 86_400;
/** Logs that the first bundle is trained on, windows that are judged, and days until retraining. */
const TRAINING_DAYS = 60;
const WINDOW_DAYS = 7;
const RETRAINING_DAYS = 90;
/** Lists that a simulated device asks for on one day; its other interactions it only observes. */
const REQUESTS_PER_DEVICE = 1;
/** The challenger forgets what is older than this. */
const RETRAINING_FIRST_DAY = 45;

const { values: flags } = parseArgs({
  options: {
    once: { type: 'boolean', default: false },
    out: { type: 'string', default: join(ROOT, 'build', 'demo') },
    users: { type: 'string', default: '3000' },
    devices: { type: 'string', default: '9000' },
    port: { type: 'string', default: '0' },
  },
});

const paths = {
  logs: join(flags.out, 'logs'),
  calm: join(flags.out, 'calm'),
  drifted: join(flags.out, 'drifted'),
  fresh: join(flags.out, 'fresh-logs'),
  champion: join(flags.out, 'champion'),
  challenger: join(flags.out, 'challenger'),
  key: join(flags.out, 'shop.key'),
  site: join(flags.out, 'site'),
  catalogue: join(flags.out, 'catalogue.json'),
  screenshots: join(flags.out, 'screenshots'),
};

/** The world ends with the judged windows yesterday, so that the clock of the collector accepts them. */
function worldStart() {
  const today = Math.floor(Date.now() / 1000 / DAY) * DAY;
  return today - (TRAINING_DAYS + WINDOW_DAYS) * DAY;
}

async function makeWorlds() {
  print.step('generating the synthetic world');
  const world = ['synth', '--users', flags.users, '--start', worldStart()];
  const windows = ['--device-days', `${TRAINING_DAYS}:${TRAINING_DAYS + WINDOW_DAYS}`];
  const drift = ['--drift-day', TRAINING_DAYS, '--drift-strength', 1];
  // Devices are many; the logs of a part of the same users are enough to train on.
  const fleet = ['synth', '--users', flags.devices, '--start', worldStart()];
  const until = TRAINING_DAYS + WINDOW_DAYS;
  const { counts } = await sanderling(...world, '--days', TRAINING_DAYS, '--out', paths.logs);
  await sanderling(...fleet, '--days', until, ...windows, '--out', paths.calm);
  await sanderling(...fleet, '--days', until, ...windows, ...drift, '--out', paths.drifted);
  const fresh = ['--days', RETRAINING_DAYS, '--first-day', RETRAINING_FIRST_DAY, ...drift];
  await sanderling(...world, ...fresh, '--out', paths.fresh);
  print.line(`${counts.interactions} interactions of ${counts.users} users with ${counts.items} items; all of it is made up`);
  const validation = await sanderling('validate', paths.logs, '--now', worldStart() + RETRAINING_DAYS * DAY);
  print.line(`validated: ${validation.anomalies.length} kinds of anomalies, none an error`);
}

async function trainChampion() {
  print.step('training');
  const trained = await sanderling('train', paths.logs, '--recipe', RECIPE, '--out', paths.champion);
  print.metrics(trained);
  print.bundle(trained);
  print.step('signing and checking the bundle, natively and as wasm under wasmtime');
  await rm(paths.key, { force: true });
  await rm(`${paths.key}.pub`, { force: true });
  await sanderling('keygen', '--out', paths.key);
  await sanderling('sign', paths.champion, '--key', paths.key);
  const component = join(ROOT, 'build', 'sanderling-edge.wasm');
  const key = ['--public-key', `${paths.key}.pub`];
  const verified = await sanderling('verify', paths.champion, ...key, '--runtime', 'wasm', '--component', component);
  print.line(`${verified.operations} operations agree with the native engine`);
  print.sizes(await measure());
  return trained;
}

/** What the shop shows: the catalogue of the logs, in the shape the page reads. */
async function writeCatalogue() {
  const rows = (await readFile(join(paths.logs, 'items.csv'), 'utf8')).trim().split('\n');
  const columns = rows[0].split(',');
  const items = rows.slice(1).map((row) => {
    const fields = [...row.matchAll(/("(?:[^"]|"")*"|[^,]*)(,|$)/g)].map(([, field]) => field.replace(/^"|"$/g, '').replaceAll('""', '"'));
    const value = (name) => fields[columns.indexOf(name)] ?? '';
    const price = value('price');
    return {
      item_id: value('item_id'),
      title: value('title'),
      categories: value('categories').split('|').filter(Boolean),
      price: price === '' ? null : Number(price),
    };
  });
  await writeFile(paths.catalogue, JSON.stringify(items));
}

/** Devices of one world report to a collector of their own; the verdict must be `expected`. */
async function judge(name, folder, expected) {
  const store = join(flags.out, `${name}.db`);
  const collector = await collect({ store, bundle: paths.champion, origins: [] });
  let devices;
  try {
    devices = await runDevices({ bundle: paths.champion, devices: join(folder, 'devices.jsonl'), collector: collector.url, requests: REQUESTS_PER_DEVICE });
  } finally {
    await collector.stop();
  }
  if (devices.acknowledged === 0 || devices.rejected > 0 || devices.waiting > 0) {
    throw new Error(`${name}: reports were not delivered: ${JSON.stringify(devices)}`);
  }
  const report = await sanderling.judging('drift', '--store', store, '--bundle', paths.champion);
  print.drift(name, devices, report);
  if (report.drifted !== expected) throw new Error(`${name}: expected ${expected ? 'drift' : 'no drift'}`);
  if (report.num_reports !== devices.acknowledged) {
    throw new Error(`${name}: ${devices.acknowledged} reports acknowledged, ${report.num_reports} stored`);
  }
  return store;
}

async function retrain(store) {
  print.step('retraining on fresh logs and reports; gate: challenger against champion on the new truth');
  const challenger = ['--store', store, '--recipe', RECIPE, '--out', paths.challenger];
  const result = await sanderling.judging('retrain', paths.fresh, '--champion', paths.champion, ...challenger);
  print.gate(result);
  if (!result.gate.promote) throw new Error('the challenger did not pass the gate');
}

async function openShop({ url: collector }) {
  const { site: out, champion: bundle, catalogue } = paths;
  const root = await assemble({ out, bundle, catalogue, collector, publicKey: `${paths.key}.pub` });
  return serve({ root, port: Number(flags.port) });
}

async function shop(once) {
  await writeCatalogue();
  const store = join(flags.out, 'shop.db');
  const [token, tokenFile] = [randomBytes(16).toString('hex'), join(flags.out, 'admin.token')];
  await writeFile(tokenFile, token, { mode: 0o600 });
  const collector = await collect({ store, bundle: paths.champion, origins: ['*'], tokenFile });
  const server = await openShop(collector).catch(async (error) => {
    await collector.stop();
    throw error;
  });
  if (!once) return { collector, server, token };
  try {
    print.step('one session in a real browser');
    const session = await playSession({ url: `${server.url}/`, bundle: paths.champion, screenshots: paths.screenshots });
    print.session(session);
  } finally {
    await server.close();
    await collector.stop();
  }
  return null;
}

await mkdir(flags.out, { recursive: true });
for (const store of ['calm', 'drifted', 'shop']) {
  for (const suffix of ['.db', '.db-wal', '.db-shm']) await rm(join(flags.out, store + suffix), { force: true });
}
await makeWorlds();
await trainChampion();
if (flags.once) {
  print.step('devices report without drift, then with drift');
  await judge('calm', paths.calm, false);
  const store = await judge('drifted', paths.drifted, true);
  await retrain(store);
  await shop(true);
  print.step('every step held');
} else {
  const { collector, server, token } = await shop(false);
  print.line(`\nThe shop:      ${server.url}/\nThe collector: ${collector.adminUrl}/ (token ${token})\n\nCtrl-C stops both.`);
  for (const signal of ['SIGINT', 'SIGTERM']) {
    process.once(signal, async () => {
      await server.close();
      await collector.stop();
      process.exit(0);
    });
  }
}
