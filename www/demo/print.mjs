// What the demo prints.
/* eslint-disable no-console */

const started = performance.now();
const SHOWN = ['ndcg@10', 'hr@10', 'mrr@20', 'coverage@10'];

export function step(text) {
  console.log(`\n== ${text} (${Math.round((performance.now() - started) / 1000)} s)`);
}

export function line(text) {
  console.log(text);
}

function bytes(count) {
  return count < 10_000 ? `${count} B` : `${(count / 1000).toFixed(1)} kB`;
}

export function metrics(result) {
  console.log(`${result.num_cases} test cases, split ${result.split}; value and 95 % interval`);
  console.log(`   ${'recommender'.padEnd(14)}${SHOWN.map((name) => name.padStart(26)).join('')}`);
  for (const [name, row] of [[result.recommender, result.metrics], ...Object.entries(result.baselines)]) {
    const cells = SHOWN.map((metric) => {
      const { value, low, high } = row[metric];
      return `${value.toFixed(4)} (${low.toFixed(4)}–${high.toFixed(4)})`.padStart(26);
    });
    console.log(`   ${name.padEnd(14)}${cells.join('')}`);
  }
}

export function bundle(result) {
  console.log(`bundle ${result.bundle_hash.slice(0, 16)}, ${bytes(result.bundle_bytes)}`);
  for (const [name, count] of Object.entries(result.file_bytes)) console.log(`   ${name.padEnd(18)}${bytes(count).padStart(12)}`);
  const { cpu_seconds: cpu, wall_seconds: wall, peak_rss_bytes: rss } = result;
  console.log(`   trained in ${wall.toFixed(0)} s (${cpu.toFixed(0)} CPU seconds, ${(rss / 1e6).toFixed(0)} MB at most)`);
}

export function sizes(result) {
  console.log('download of the engine in bytes, without bundle');
  console.log(`   ${''.padEnd(12)}${['raw', 'gzip', 'brotli'].map((name) => name.padStart(12)).join('')}`);
  for (const [name, { raw_bytes: raw, gzip_bytes: gzip, brotli_bytes: brotli }] of Object.entries(result)) {
    console.log(`   ${name.padEnd(12)}${[raw, gzip, brotli].map((count) => String(count).padStart(12)).join('')}`);
  }
}

export function drift(name, devices, report) {
  const drifted = report.fields.filter((field) => field.drifted).map((field) => `${field.name} (effect ${field.effect.toFixed(2)})`);
  console.log(
    `${name}: ${devices.devices} device days, ${devices.acknowledged} reports acknowledged and stored in ${devices.seconds} s; ` +
      `hit rate of the first ten ${(devices.hits / devices.recommendations).toFixed(3)}`,
  );
  console.log(`   verdict: ${report.drifted ? `DRIFT in ${drifted.join(', ')}` : 'no drift'}`);
}

export function gate({ gate: result }) {
  const show = ({ value, low, high }) => `${value.toFixed(4)} (${low.toFixed(4)}–${high.toFixed(4)})`;
  console.log(`NDCG@10 champion ${show(result.champion_ndcg10)}, challenger ${show(result.challenger_ndcg10)}`);
  console.log(`paired difference ${show(result.difference_ndcg10)}`);
  for (const check of result.checks) console.log(`   ${check.passed ? 'pass' : 'FAIL'}  ${check.name}: ${check.required}; found ${check.found}`);
  console.log(`   ${result.promote ? 'the challenger is promoted' : 'the champion stays'}`);
}

export function session(result) {
  const where = result.browser === null ? `${result.runtime} (no browser was found)` : `${result.runtime} ${result.browser}`;
  console.log(`ran in ${where}; recommend(): ${JSON.stringify(result.bench)}`);
  if (result.screenshots) console.log(`screenshots in ${result.screenshots}`);
}
