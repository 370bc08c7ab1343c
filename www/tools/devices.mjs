// Simulates devices that run the package in Node and send real HTTP reports:
// `node devices.mjs --bundle DIR --devices FILE.jsonl [--collector URL] [--limit N] [--requests N] [--seed N]`.
// `--requests` bounds how many interactions of a device ask for recommendations first; evenly spaced.
// `--seed` makes the noise of the reports repeatable, which only a simulation may.
// A line is {"history": [{item_id, kind, timestamp}], "interactions": [...]}; prints counts as JSON.
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { createInterface } from 'node:readline';
import { pathToFileURL } from 'node:url';

import { MemoryStorage, Recommender } from '../pkg/dist/node.js';
import { readFlags } from './flags.mjs';

const RECOMMENDATIONS = 10;

/** Runs every device of a file against a collector; all share one engine, one after another. */
export async function runDevices({ bundle, devices, collector, limit = Infinity, requests = Infinity, seed }) {
  const restoreRandom = seed === undefined ? () => {} : seedRandom(seed);
  try {
    return await runAll({ bundle, devices, collector, limit, requests });
  } finally {
    restoreRandom();
  }
}

/** Replaces the platform's random numbers by a stream that depends on `seed` alone; gives its undoing. */
function seedRandom(seed) {
  let counter = 0;
  const getRandomValues = (bytes) => {
    // Longer requests than one block do not occur here.
    bytes.set(createHash('sha256').update(`${seed}/${(counter += 1)}`).digest().subarray(0, bytes.length));
    return bytes;
  };
  Object.defineProperty(globalThis.crypto, 'getRandomValues', { value: getRandomValues, configurable: true });
  return () => delete globalThis.crypto.getRandomValues;
}

async function runAll({ bundle, devices, collector, limit, requests }) {
  const loaded = await Recommender.load({ baseUrl: bundle, consent: 'none' });
  const totals = {
    devices: 0, recommendations: 0, hits: 0, closed: 0, acknowledged: 0, duplicate: 0, rejected: 0, rejections: {},
    waiting: 0, not_reportable: {},
  };
  const started = performance.now();
  for await (const line of createInterface({ input: createReadStream(devices), crlfDelay: Infinity })) {
    if (totals.devices >= limit) break;
    if (line.trim() !== '') await runDevice(loaded.engine, JSON.parse(line), { collectorUrl: collector, requests }, totals);
  }
  loaded.free();
  const seconds = (performance.now() - started) / 1000;
  return { ...totals, seconds: Math.round(seconds * 100) / 100 };
}

async function runDevice(engine, { history, interactions }, { collectorUrl, requests }, totals) {
  totals.devices += 1;
  const last = interactions.at(-1);
  if (last === undefined) return;
  const storage = new MemoryStorage({ session: history });
  const settings = { engine, storage, consent: 'share', autoSend: false };
  const device = await Recommender.load(collectorUrl === undefined ? settings : { ...settings, collectorUrl });
  for (const [index, { item_id: itemId, kind, timestamp }] of interactions.entries()) {
    if (!isAsked(index, interactions.length, requests)) {
      device.observe({ itemId, kind, timestamp });
      continue;
    }
    const { recommendations } = device.recommend({ limit: RECOMMENDATIONS, now: timestamp });
    const position = recommendations.find((recommendation) => recommendation.itemId === itemId)?.position;
    device.recordOutcome(position === undefined ? {} : { position });
    device.observe({ itemId, kind, timestamp });
    totals.recommendations += 1;
    totals.hits += position === undefined ? 0 : 1;
  }
  count(totals, await device.telemetry.flush({ now: last.timestamp }));
  device.free();
}

/** Whether interaction `index` of `length` is one of `requests` evenly spaced ones. */
function isAsked(index, length, requests) {
  const asked = Math.min(requests, length);
  return Math.floor(((index + 1) * asked) / length) > Math.floor((index * asked) / length);
}

function count(totals, { closed, notReportable, accepted, duplicate, dropped, waiting }) {
  totals.closed += closed ? 1 : 0;
  totals.acknowledged += accepted;
  totals.duplicate += duplicate;
  totals.rejected += dropped.length;
  totals.waiting += waiting;
  for (const code of dropped) totals.rejections[code] = (totals.rejections[code] ?? 0) + 1;
  if (notReportable !== null) totals.not_reportable[notReportable] = (totals.not_reportable[notReportable] ?? 0) + 1;
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  const required = { required: true };
  const flags = readFlags({ bundle: required, devices: required, collector: {}, limit: { default: 'Infinity' }, requests: { default: 'Infinity' }, seed: {} });
  const totals = await runDevices({ ...flags, limit: Number(flags.limit), requests: Number(flags.requests) });
  console.log(JSON.stringify(totals));
  // A device that could not deliver is a failed run, not a statistic.
  process.exitCode = totals.waiting > 0 || totals.rejected > 0 ? 1 : 0;
}
