// The engine against what a page, a Node service or an edge worker would use instead: `node runtime.mjs [--out DIR]
// [--where node,chromium] [--node PATH] [--cold 7]`. All peers have the same encoder, items and sessions and take turns in one process; results
// are compared with onnxruntime-web in f32. SANDERLING_PEER_PYTHON names an interpreter with onnx, onnxruntime and numpy, which
// writes the models of the ONNX runtimes. Floors are those of --node, the pinned release of Node without it; the Node that runs this is
// measured, too. --write puts the tables into docs/performance.md. Exits 1 when a floor is missed.
import { execFile } from 'node:child_process';
import { access, cp, mkdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { extname, join, resolve, sep } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs, promisify } from 'node:util';

import { launch } from '../../www/tools/browser.mjs';
import { compressed } from '../../www/tools/sizes.mjs';
import { importTool } from '../js/lib/paths.mjs';
import { filesOf } from './runtime/files.mjs';
import { CASES, PEERS } from './runtime/peers.mjs';

const run = promisify(execFile);
const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const { values: flags } = parseArgs({
  options: {
    out: { type: 'string', default: here('../../build/runtime') },
    where: { type: 'string', default: 'node,chromium' },
    node: { type: 'string', default: await pinnedNode() },
    cold: { type: 'string', default: '7' },
    write: { type: 'boolean', default: false },
  },
});
const BUILDS = ['quads', 'pairs', 'wasm', 'scalar'];
const out = resolve(flags.out);
const TYPES = { '.html': 'text/html', '.js': 'text/javascript', '.mjs': 'text/javascript', '.wasm': 'application/wasm', '.json': 'application/json' };

/** A supported release of Node, where npm has one for this machine; else the Node that runs this. */
async function pinnedNode() {
  const pinned = here(`runtime/node_modules/node-${process.platform}-${process.arch}/bin/node`);
  return access(pinned).then(() => pinned, () => process.execPath);
}

/** Models, then the runtimes as a page would fetch them. */
async function prepare() {
  const example = join(process.env.CARGO_TARGET_DIR ?? here('../../target'), 'debug/examples/runtime_world');
  await run(example, [out]);
  await run(process.env.SANDERLING_PEER_PYTHON ?? 'python3', [here('peers/onnx_models.py'), out]);
  const vendor = join(out, 'vendor');
  const from = here('runtime/node_modules');
  await rm(vendor, { recursive: true, force: true });
  await mkdir(vendor, { recursive: true });
  for (const name of ['ort.wasm.min.mjs', 'ort-wasm-simd-threaded.mjs', 'ort-wasm-simd-threaded.wasm']) {
    await cp(join(from, 'onnxruntime-web/dist', name), join(vendor, name));
  }
  await cp(join(from, '@tensorflow/tfjs-backend-wasm/dist/tfjs-backend-wasm-simd.wasm'), join(vendor, 'tfjs-backend-wasm-simd.wasm'));
  const esbuild = await importTool('esbuild');
  const common = { bundle: true, format: 'esm', logLevel: 'error', nodePaths: [from] };
  await esbuild.build({ ...common, platform: 'node', entryPoints: [join(from, 'onnxruntime-web/dist/ort.node.min.mjs')], outfile: join(vendor, 'ort.node.mjs') });
  const contents = 'export * as tf from "@tensorflow/tfjs-core"; export * as wasm from "@tensorflow/tfjs-backend-wasm";';
  await esbuild.build({ ...common, minify: true, platform: 'browser', stdin: { contents, resolveDir: from }, outfile: join(vendor, 'tf.mjs') });
  // As a page has it: one module and the engine beside it.
  const page = join(out, 'page');
  await mkdir(join(page, 'wasm'), { recursive: true });
  for (const [entry, name] of [['browser-slim', 'sanderling'], ['browser-full', 'full']]) {
    await esbuild.build({ ...common, minify: true, platform: 'browser', entryPoints: [here(`../../www/pkg/dist/${entry}.js`)], outfile: join(page, `dist/${name}.mjs`) });
  }
  for (const variant of [...BUILDS, 'full']) {
    await cp(here(`../../www/pkg/wasm/sanderling_${variant}_bg.wasm`), join(page, `wasm/sanderling_${variant}_bg.wasm`));
  }
  await rm(join(out, 'sanderling'), { force: true });
  await symlink(here('../../www/pkg'), join(out, 'sanderling'));
}

const inNode = async (node, ...args) => JSON.parse((await run(node, ['--expose-gc', here('runtime/in-node.mjs'), out, ...args], { maxBuffer: 1 << 26 })).stdout);

/**
 * Serves the bench, the models and the package with the headers of an isolated page, which has the finest clock. From memory after the
 * first time: the disk is nobody's start.
 */
async function serveBench() {
  const bodies = new Map();
  const bodyOf = async (file) => {
    if (!bodies.has(file)) bodies.set(file, await readFile(file));
    return bodies.get(file);
  };
  const server = createServer(async (request, response) => {
    const { pathname } = new URL(request.url, 'http://localhost');
    const list = /^\/list\/(\d+)$/.exec(pathname);
    const [root, path] = pathname.startsWith('/files/') ? [out, pathname.slice(7)] : [here('runtime'), pathname.slice(1)];
    const file = resolve(root, decodeURIComponent(path));
    try {
      if (!file.startsWith(resolve(root) + sep)) throw new Error('outside');
      const body = list ? JSON.stringify(await filesOf(out, list[1])) : await bodyOf(file);
      response.writeHead(200, {
        'content-type': TYPES[extname(file)] ?? 'application/octet-stream', 'cross-origin-opener-policy': 'same-origin',
        'cross-origin-embedder-policy': 'require-corp', 'cross-origin-resource-policy': 'same-origin', 'cache-control': 'no-store',
        'content-length': Buffer.byteLength(body),
      });
      response.end(body);
    } catch {
      response.writeHead(404).end();
    }
  });
  await new Promise((ready) => server.listen(0, '127.0.0.1', ready));
  return { url: `http://127.0.0.1:${server.address().port}/page.html`, close: () => server.close() };
}

/** What a browser still does of its own start when its first page is there. */
const BROWSER_STARTS_MILLIS = 1500;

async function inPage(url, call, waitMillis = 0) {
  const browser = await launch({ args: ['--js-flags=--expose-gc'] });
  try {
    const page = await browser.context.newPage();
    page.on('console', (message) => process.stderr.write(`   ${message.text()}\n`));
    await page.goto(url);
    await page.waitForFunction('window.bench');
    await setTimeout(waitMillis);
    return { version: browser.version, result: await page.evaluate(call) };
  } finally {
    await browser.close();
  }
}

const median = (values) => values.sort((a, b) => a - b)[values.length >> 1];
const lines = [];
function say(line = '') {
  console.log(line);
  lines.push(line);
}

function showSteady(where, rows) {
  for (const name of Object.keys(CASES)) {
    say(`\n### ${where}, ${name}: milliseconds a call\n`);
    const isRanker = CASES[name].ranker !== undefined;
    say(`| what | min | p50 | p95 | p99 | ${isRanker ? 'farthest score from' : 'top 20 as'} onnxruntime-web f32 |\n|---|---:|---:|---:|---:|---:|`);
    for (const row of rows.filter((row) => row.name === name)) {
      const times = [row.min, row.p50, row.p95, row.p99].map((time) => time.toFixed(3)).join(' | ');
      say(`| ${row.peer} | ${times} | ${row.agreement === undefined ? '' : isRanker ? row.agreement.toExponential(1) : `${(row.agreement * 100).toFixed(1)} %`} |`);
    }
  }
}

const betterOf = (peers) => `${peers.length > 1 ? 'the better of ' : ''}${peers.join(', ')}`;

/** Floors as ratios of medians; `times` is how often ours must fit into the peer's time. */
function judge(where, rows, peers, name, mine, times) {
  const p50 = (peer) => rows.find((row) => row.name === name && row.peer === peer).p50;
  const theirs = Math.min(...peers.map(p50));
  const ratio = theirs / p50(mine);
  const held = ratio >= times;
  say(`| ${where}, ${name}: ${mine} | ${betterOf(peers)} | ${ratio.toFixed(2)} | ${times.toFixed(2)} | ${held ? 'holds' : 'MISSED'} |`);
  return held;
}

/** A floor that is no ratio of medians; `held` says whether it holds. */
function judgeValue(what, than, value, floor, held) {
  verdicts.push(held);
  say(`| ${what} | ${than} | ${value} | ${floor} | ${held ? 'holds' : 'MISSED'} |`);
}

/** Peers take turns, so that none has the machine's best minute; a page is measured once its browser has started. */
async function coldStart(where, url, node) {
  const peers = PEERS.filter((peer) => (peer.where ?? where) === where).map(({ name }) => name).filter((name) => !name.includes(','));
  const found = new Map(peers.map((peer) => [peer, []]));
  for (let time = 0; time < Number(flags.cold); time += 1) {
    for (let turn = 0; turn < peers.length; turn += 1) {
      const peer = peers[(turn + time) % peers.length];
      found.get(peer).push(where === 'node' ? await inNode(node, 'cold', peer, '50000 items')
        : (await inPage(url, `window.bench.cold(${JSON.stringify(peer)}, '50000 items')`, BROWSER_STARTS_MILLIS)).result);
    }
  }
  const rows = [...found].map(([peer, runs]) =>
    ({ peer, millis: median(runs.map(({ millis }) => millis)), wasm_bytes: runs[0].wasm_bytes }));
  say(`\n### ${where}: from fetched bytes to the first list, 50,000 items, a fresh process or page each, median of ${flags.cold}\n`);
  say('| what | ms | wasm memory, MiB |\n|---|---:|---:|');
  for (const { peer, millis, wasm_bytes: bytes } of rows) say(`| ${peer} | ${millis.toFixed(1)} | ${bytes === 0 ? '' : (bytes / 2 ** 20).toFixed(1)} |`);
  return rows;
}

/** Puts the tables behind the marker of the page, in place of those that were there. */
async function writePage() {
  const page = here('../../docs/performance.md');
  const marker = '<!-- tables of bench runtime -->';
  const [text] = (await readFile(page, 'utf8')).split(marker);
  await writeFile(page, `${text}${marker}\n${lines.join('\n')}\n`);
}

await mkdir(out, { recursive: true });
await prepare();
const verdicts = [];
const floors = [];
const web = ['onnxruntime-web f32', 'onnxruntime-web int8'];
const served = await serveBench();
const nodes = flags.where.split(',').includes('node') ? [...new Set([process.execPath, flags.node])] : [];
for (const node of nodes) {
  const version = `Node ${(await run(node, ['--version'])).stdout.trim()}`;
  const rows = await inNode(node, 'steady');
  showSteady(version, rows);
  if (Number(flags.cold) > 0) await coldStart('node', served.url, node);
  floors.push(() => {
    // Of a release that is not the pinned one it is only told.
    const check = (...args) => judge(version, rows, ...args) || node !== flags.node;
    verdicts.push(
      check(['onnxruntime-node int8'], '10000 items', 'sanderling', 1 / 1.3),
      check(['onnxruntime-node int8'], '50000 items', 'sanderling', 1 / 1.3),
      check(['onnxruntime-node int8'], '200000 items', 'sanderling', 1),
    );
  });
}
for (const where of flags.where.split(',').filter((where) => where !== 'node')) {
  const found = await inPage(served.url, 'window.bench.steady()');
  const rows = found.result;
  showSteady(found.version, rows);
  const start = Number(flags.cold) > 0 ? await coldStart(where, served.url) : [];
  floors.push(() => {
    const check = (...args) => verdicts.push(judge(where, rows, ...args));
    check(web, '10000 items', 'sanderling', 2);
    check(web, '50000 items', 'sanderling', 2.5);
    check(web, '200000 items', 'sanderling', 2.8);
    check(web, '50000 items', 'sanderling, whole recommend()', 1);
    check(['onnxruntime-web f32', 'tfjs-wasm f32'], 'network, 200 × 32', 'sanderling', 1.5);
    check(['onnxruntime-web f32'], 'trees, 200 × 32', 'sanderling', 2);
    const ms = (name) => start.find(({ peer }) => peer === name)?.millis;
    for (const [peers, times] of [[web, 20], [['tfjs-wasm f32'], 2]]) {
      if (ms(peers[0]) === undefined) continue;
      const ratio = Math.min(...peers.map(ms)) / ms('sanderling');
      judgeValue(`${where}, cold start, 50,000 items`, betterOf(peers), ratio.toFixed(2), times, ratio >= times);
    }
    const memory = start.find(({ peer }) => peer === 'sanderling')?.wasm_bytes / 2 ** 20;
    if (!Number.isNaN(memory)) judgeValue(`${where}, wasm memory, 50,000 items`, '', `${memory.toFixed(1)} MiB`, 'at most 8', memory <= 8);
    const { agreement } = rows.find((row) => row.name === '50000 items' && row.peer === 'sanderling');
    judgeValue(`${where}, top 20 of 50,000`, 'as onnxruntime-web f32', `${(agreement * 100).toFixed(1)} %`, '97.5 %', agreement >= 0.975);
  });
}
served.close();
const workerd = JSON.parse((await run(process.execPath, [here('runtime/in-workerd.mjs'), join(out, '50000/full')])).stdout);
say('\n### workerd: the template of www/edge-worker, 50,000 items, until the first list\n\n| what | CPU, ms | process, MiB |\n|---|---:|---:|');
for (const [what, { millis, mib }] of [['a worker that does nothing', workerd.empty], ['the template', workerd.template]]) say(`| ${what} | ${millis.toFixed(0)} | ${mib.toFixed(0)} |`);
floors.push(() => {
  const millis = workerd.template.millis - workerd.empty.millis;
  const mib = workerd.template.mib - workerd.empty.mib;
  judgeValue('workerd, start to first list, CPU', 'a worker that does nothing', `+${millis.toFixed(0)} ms`, 'at most +200', millis <= 200);
  judgeValue('workerd, memory', 'a worker that does nothing', `+${mib.toFixed(0)} MiB`, 'at most +64', mib <= 64);
});
say('\n### Floors: how many times faster, and others\n\n| what | than | ratio of medians | floor | |\n|---|---|---:|---:|---|');
floors.forEach((floor) => floor());
const brotliKib = async (name) => compressed(await readFile(join(out, name))).brotli_bytes / 1024;
const script = await brotliKib('page/dist/sanderling.mjs');
// A page fetches one of them.
const builds = await Promise.all(BUILDS.map(async (build) => [build, await brotliKib(`page/wasm/sanderling_${build}_bg.wasm`)]));
const [largest, wasm] = builds.sort((a, b) => b[1] - a[1])[0];
judgeValue(`slim download, brotli, the largest build (${largest})`, '', `${(wasm + script).toFixed(0)} KiB`, 'at most 150', wasm + script <= 150);
const full = (await brotliKib('page/wasm/sanderling_full_bg.wasm') + await brotliKib('page/dist/full.mjs')) / 1024;
judgeValue('full download, brotli', '', `${full.toFixed(2)} MiB`, 'at most 1.3', full <= 1.3);
const models = await Promise.all(['encoder.onnx', 'items.bin'].map((name) => readFile(join(out, '50000/retrieve', name))));
const modelBytes = models.reduce((sum, { length }) => sum + length, 0);
judgeValue('encoder and items, 50,000 × 64', '', `${(modelBytes / 1e6).toFixed(2)} MB`, 'at most 3.9', modelBytes <= 3.9e6);
say(`\nDownload of the slim runtime, brotli, in KiB: one of its builds (${builds.map(([build, kib]) => `${build} ${kib.toFixed(1)}`).join(', ')}) and ${script.toFixed(1)} of JavaScript (the whole package, minified).`);
if (flags.write) await writePage();
process.exitCode = verdicts.every(Boolean) ? 0 : 1;
