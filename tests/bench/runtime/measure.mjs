// Takes turns: every peer of a case in one process, rounds of calls in rotated order.
import { CASES, PEERS, inputs as inputsOf } from './peers.mjs';

const [ROUNDS, CALLS, WARM_UP] = [24, 10, 60];
/** Inputs whose results are compared; the first of them are timed. */
const [COMPARED, TIMED] = [320, 16];
const quantile = (sorted, q) => sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))];

/** Rows `{ name, peer, min, p50, p95, p99, agreement }`; `agreement` is the share of the reference's top 20. */
export async function steady(env, log = () => {}) {
  const rows = [];
  for (const [name, test] of Object.entries(CASES)) {
    const compared = inputsOf(test, test.ranker === undefined ? COMPARED : TIMED);
    const inputs = compared.slice(0, TIMED);
    const running = [];
    for (const peer of PEERS.filter(({ where, runs = () => true }) => (where === undefined || where === env.where) && runs(test))) {
      log(`${name}: ${peer.name}`);
      const run = await (await peer.start(env))(test);
      for (let at = 0; at < WARM_UP; at += 1) await run(inputs[at % inputs.length]);
      const lists = [];
      for (const input of peer.other || test.alone ? [] : compared) {
        const { ids, scores } = await run(input);
        lists.push({ ids, scores: Array.from(scores) });
      }
      running.push({ peer, run, lists, times: [] });
    }
    for (let round = 0; round < ROUNDS; round += 1) {
      for (let turn = 0; turn < running.length; turn += 1) {
        const { run, times, peer } = running[(turn + round) % running.length];
        for (let call = 0; call < CALLS; call += 1) {
          // One item more each call is what a page does; other peers see another session each time.
          const input = inputs[peer.name.endsWith('item by item') ? round % inputs.length : (round * CALLS + call) % inputs.length];
          const started = performance.now();
          const answer = run(input);
          if (answer instanceof Promise) await answer;
          times.push(performance.now() - started);
        }
      }
    }
    const reference = running[0].lists;
    for (const { peer, lists, times } of running) {
      times.sort((a, b) => a - b);
      const agreement = peer.other || test.alone ? undefined : test.ranker === undefined ? sharedOf(lists, reference) : farthest(lists, reference);
      rows.push({
        name, peer: peer.name, calls: times.length, min: times[0], p50: quantile(times, 0.5), p95: quantile(times, 0.95),
        p99: quantile(times, 0.99), agreement,
      });
    }
  }
  return rows;
}

/** The share of ids that the reference lists too. */
function sharedOf(lists, reference) {
  const shared = lists.flatMap(({ ids }, at) => ids.map((id) => Number(reference[at].ids.includes(id))));
  return shared.reduce((sum, one) => sum + one, 0) / shared.length;
}

/** The largest difference of a score from the reference. */
function farthest(lists, reference) {
  return Math.max(...lists.flatMap(({ scores }, at) => Array.from(scores, (score, row) => Math.abs(score - reference[at].scores[row]))));
}

/** Milliseconds from fetched bytes to the first list, and the wasm memory after 30 more calls, of one peer. */
export async function cold(env, peerName, caseName) {
  const memory = watchMemory();
  const peer = PEERS.find(({ name }) => name === peerName);
  const test = CASES[caseName];
  const inputs = inputsOf(test);
  const [input] = inputs;
  await env.prefetch(test);
  const started = performance.now();
  const run = await (await peer.start(env))(test);
  await run(input);
  const millis = performance.now() - started;
  for (let call = 0; call < 30; call += 1) await run(inputs[call % inputs.length]);
  return { peer: peerName, name: caseName, millis, wasm_bytes: await memory() };
}

/** Sees every memory that wasm exports or is given from now on, until nobody holds it any more. */
function watchMemory() {
  const seen = [];
  const add = (memory) => {
    if (!seen.some((known) => known.deref() === memory)) seen.push(new WeakRef(memory));
  };
  const note = (result) => {
    for (const value of Object.values((result.instance ?? result).exports)) if (value instanceof WebAssembly.Memory) add(value);
    return result;
  };
  for (const name of ['instantiate', 'instantiateStreaming']) {
    const original = WebAssembly[name];
    if (original) WebAssembly[name] = (...args) => original.apply(WebAssembly, args).then(note);
  }
  WebAssembly.Instance = new Proxy(WebAssembly.Instance, { construct: (target, args) => note(new target(...args)) });
  const Memory = WebAssembly.Memory;
  WebAssembly.Memory = new Proxy(Memory, {
    construct(target, args) {
      const memory = new target(...args);
      add(memory);
      return memory;
    },
  });
  return async () => {
    // A reference that was looked at lives until the next task.
    await new Promise((resolve) => setTimeout(resolve, 0));
    globalThis.gc?.();
    return seen.reduce((sum, memory) => sum + (memory.deref()?.buffer.byteLength ?? 0), 0);
  };
}
