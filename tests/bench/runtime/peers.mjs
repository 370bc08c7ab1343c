// Every peer: { name, where?, start(env) -> open(case) -> run(input) -> { ids, scores } or a promise }. `env` says where it
// runs: { node, url(path), bytes(path) } over one folder that has the models of runtime_world and the vendored runtimes.
const [DIM, SESSION, TOP, HEADS, BLOCKS] = [64, 50, 20, 2, 2];
const [ROWS, FEATURES] = [200, 32];
const NOW = 1_700_000_100;

/** The cases by name. */
export const CASES = {
  '10000 items': { items: 10_000 },
  '50000 items': { items: 50_000 },
  '200000 items': { items: 200_000 },
  // No peer is asked.
  '50000 items of 4 bits': { items: 50_000, bundle: 'retrieve-int4', alone: true },
  '1000000 items': { items: 1_000_000, alone: true },
  'network, 200 × 32': { ranker: 'mlp' },
  'trees, 200 × 32': { ranker: 'trees' },
};

/** What a case runs on: sessions of rows, or feature rows. */
export function inputs({ items, ranker }, count = 16) {
  return ranker === undefined ? sessions(items, count) : Array.from({ length: count }, (_, at) => featureRows(at));
}

function featureRows(seed) {
  let state = seed + 1;
  const next = () => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0) / 2 ** 32;
  return Float32Array.from({ length: ROWS * FEATURES }, () => next() * 4 - 2);
}

/** Sessions of rows, the same on every run. */
function sessions(items, count = 16) {
  let state = 12345;
  const next = () => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0) / 2 ** 32;
  return Array.from({ length: count }, () => Int32Array.from({ length: SESSION }, () => Math.floor(next() * items)));
}

// ---- ours: the package as users load it, through its JSON boundary ----

const interactions = (rows) => Array.from(rows, (row) => ({ item_id: `i${row}`, kind: 'view', timestamp: 0 }));

function request(rows, limit) {
  return { session: interactions(rows), context: {}, rules: {}, limit, now: NOW, seed: 1 };
}

const listed = ({ recommendations }) => ({
  ids: recommendations.map(({ item_id }) => Number(item_id.slice(1))), scores: recommendations.map(({ score }) => score),
});

/** What a server answered whose bytes are in memory by now, as the models of all peers are. */
function fetched(bytes) {
  const headers = new Headers({ 'content-length': String(bytes.length) });
  return { ok: true, status: 200, headers, body: true, arrayBuffer: async () => bytes.buffer };
}

/** Loads a bundle by the package's own loader; in Node from its folder, as a service does. */
async function ourEngine(env, folder) {
  const { Recommender } = await import(env.url(env.node ? 'sanderling/dist/node.js' : 'page/dist/sanderling.mjs'));
  if (env.node) return (await Recommender.load({ baseUrl: env.url(folder), consent: 'none' })).engine;
  const fetch = async (url) => (url.endsWith('.wasm') ? globalThis.fetch(url) : fetched(await env.bytes(`${folder}/${new URL(url).pathname.slice(1)}`)));
  return (await Recommender.load({ baseUrl: 'https://bundle.invalid/', fetch, consent: 'none' })).engine;
}

/** Encoder and scan: rows in, rows out, as the peers have it. `grows` makes every session one item longer than the one before. */
function ours({ grows = false } = {}) {
  return (env) => async ({ items, ranker, bundle = 'retrieve' }) => {
    if (ranker !== undefined) {
      const engine = await ourEngine(env, `rankers/${ranker}`);
      return (rows) => ({ scores: engine.rank(rows) });
    }
    const engine = await ourEngine(env, `${items}/${bundle}`);
    let [seen, at] = [undefined, 0];
    return (rows) => {
      const session = new Uint32Array(rows.buffer, rows.byteOffset, rows.length);
      [seen, at] = seen === rows && at < rows.length ? [rows, at + 1] : [rows, 1];
      const [ids, scores] = engine.retrieve(grows ? session.subarray(0, at) : session, TOP);
      return { ids: Array.from(ids), scores };
    };
  };
}

/** Everything: 200 candidates, features, a network as ranker, policy with diversity, reasons, the list as objects. */
const wholeRecommend = (env) => async ({ items }) => {
  const engine = await ourEngine(env, `${items}/full`);
  return (rows) => listed(engine.recommend({ ...request(rows, TOP), rules: { diversity: 0.3 } }));
};

// ---- ONNX Runtime ----

function onnxruntime(ort, options) {
  return (env, precision) => async ({ items, ranker }) => {
    if (ranker !== undefined) {
      const session = await ort.InferenceSession.create(await env.bytes(`rankers/${ranker}/ranker.onnx`), { graphOptimizationLevel: 'all', ...options });
      return async (rows) => ({ scores: (await session.run({ features: new ort.Tensor('float32', rows, [ROWS, FEATURES]) })).scores.data });
    }
    const session = await ort.InferenceSession.create(await env.bytes(`${items}/peer-${precision}.onnx`), { graphOptimizationLevel: 'all', ...options });
    return async (rows) => {
      const { scores, ids } = await session.run({ session: new ort.Tensor('int64', BigInt64Array.from(rows, BigInt), [1, SESSION]) });
      return { ids: Array.from(ids.data, Number), scores: Array.from(scores.data) };
    };
  };
}

function ortWeb(precision) {
  return async (env) => {
    const ort = await import(env.url(env.node ? 'vendor/ort.node.mjs' : 'vendor/ort.wasm.min.mjs'));
    ort.env.wasm.numThreads = 1;
    ort.env.logLevel = 'error';
    return onnxruntime(ort, { executionProviders: ['wasm'] })(env, precision);
  };
}

function ortNode(precision) {
  return async (env) => onnxruntime(await env.native('onnxruntime-node'), { intraOpNumThreads: 1, interOpNumThreads: 1 })(env, precision);
}

// ---- tfjs, the same network by hand ----

const floats = (bytes) => new Float32Array(bytes.slice().buffer);

async function tfjs(env) {
  const { tf, wasm } = env.node
    ? { tf: env.native('@tensorflow/tfjs-core'), wasm: env.native('@tensorflow/tfjs-backend-wasm') }
    : await import(env.url('vendor/tf.mjs'));
  if (!env.node) {
    wasm.setWasmPaths(new URL('./', env.url('vendor/tf.mjs')).href);
    tf.env().set('WASM_HAS_MULTITHREAD_SUPPORT', false);
  }
  await tf.setBackend('wasm');
  await tf.ready();
  return async ({ items, ranker }) => {
    if (ranker !== undefined) return tfjsNetwork(env, tf);
    const names = JSON.parse(new TextDecoder().decode(await env.bytes('encoder.json')));
    const small = JSON.parse(new TextDecoder().decode(await env.bytes('encoder-small.json')));
    const flat = floats(await env.bytes('encoder.f32'));
    const t = {};
    for (const [name, { at, dims }] of Object.entries(names)) t[name] = tf.tensor(flat.subarray(at, at + dims[0] * dims[1]), dims);
    for (const [name, values] of Object.entries(small)) t[name] = tf.tensor1d(values);
    const table = tf.tensor2d(floats(await env.bytes(`${items}/items.f32`)), [items, DIM]);
    // The bias of a query in row r and a key in column c is that of their distance, hugely negative for keys after it.
    const biasOf = (name) => {
      const distance = small[`${name}_distance`];
      const at = (head, r, c) => (c > r ? -1e9 : distance[head * SESSION + SESSION - 1 - (r - c)]);
      const values = Array.from({ length: HEADS * SESSION * SESSION }, (_, i) => at(Math.floor(i / SESSION / SESSION), Math.floor(i / SESSION) % SESSION, i % SESSION));
      return tf.tensor(values, [HEADS, SESSION, SESSION]);
    };
    const biases = Array.from({ length: BLOCKS }, (_, block) => biasOf(`block${block}`));
    const lastRow = (x) => tf.slice(x, [x.shape[0] - 1, 0], [1, x.shape[1]]);
    const norm = (x, name) => {
      const { mean, variance } = tf.moments(x, -1, true);
      return tf.add(tf.mul(tf.mul(tf.sub(x, mean), tf.rsqrt(tf.add(variance, 1e-5))), t[`${name}_gain`]), t[`${name}_bias`]);
    };
    const linear = (x, name) => tf.fused.matMul({ a: x, b: t[`${name}_weight`], bias: t[`${name}_bias`] });
    const heads = (x) => tf.transpose(tf.reshape(x, [x.shape[0], HEADS, DIM / HEADS]), [1, 0, 2]);
    return (rows) => {
      const [values, indices] = tf.tidy(() => {
        let x = tf.mul(tf.gather(table, tf.tensor1d(rows, 'int32')), Math.sqrt(DIM));
        for (let block = 0; block < BLOCKS; block += 1) {
          const name = `block${block}`;
          const normed = norm(x, `${name}_norm1`);
          const last = block + 1 === BLOCKS;
          const asked = last ? lastRow(normed) : normed;
          if (last) x = lastRow(x);
          const bias = last ? tf.slice(biases[block], [0, SESSION - 1, 0], [HEADS, 1, SESSION]) : biases[block];
          // The weights of queries hold the scale of attention already.
          const scores = tf.add(tf.matMul(heads(linear(asked, `${name}_query`)), heads(linear(normed, `${name}_key`)), false, true), bias);
          const mixed = tf.matMul(tf.softmax(scores), heads(linear(normed, `${name}_value`)));
          x = tf.add(x, linear(tf.reshape(tf.transpose(mixed, [1, 0, 2]), [asked.shape[0], DIM]), `${name}_out`));
          const wide = linear(norm(x, `${name}_norm2`), `${name}_up`);
          x = tf.add(x, linear(tf.mul(wide, tf.sigmoid(wide)), `${name}_down`));
        }
        const found = tf.topk(tf.reshape(tf.matMul(table, tf.reshape(norm(x, 'norm'), [DIM, 1])), [items]), TOP);
        return [found.values, found.indices];
      });
      const out = { scores: Array.from(values.dataSync()), ids: Array.from(indices.dataSync()) };
      values.dispose();
      indices.dispose();
      return out;
    };
  };
}

/** The network of the rankers: two layers of SiLU, and a linear part beside them. */
async function tfjsNetwork(env, tf) {
  const named = JSON.parse(new TextDecoder().decode(await env.bytes('rankers/mlp.json')));
  const [first, second, last, direct] = named.matrices.map(({ values, dims }) => tf.tensor2d(values, dims));
  const [firstBias, secondBias] = named.biases.map((values) => tf.tensor1d(values));
  const layer = (x, weight, bias) => {
    const sum = tf.fused.matMul({ a: x, b: weight, bias });
    return tf.mul(sum, tf.sigmoid(sum));
  };
  return (rows) => ({
    scores: tf.tidy(() => {
      const features = tf.tensor2d(rows, [ROWS, FEATURES]);
      const deep = tf.matMul(layer(layer(features, first, firstBias), second, secondBias), last);
      return tf.add(deep, tf.matMul(features, direct));
    }).dataSync(),
  });
}

/** The first is the reference of the results. */
const retrieves = ({ ranker, alone }) => ranker === undefined && !alone;
const isShared = ({ alone }) => !alone;

export const PEERS = [
  { name: 'onnxruntime-web f32', start: ortWeb('f32'), runs: isShared },
  { name: 'onnxruntime-web int8', start: ortWeb('i8'), runs: retrieves },
  { name: 'onnxruntime-node f32', where: 'node', start: ortNode('f32'), runs: isShared },
  { name: 'onnxruntime-node int8', where: 'node', start: ortNode('i8'), runs: retrieves },
  { name: 'tfjs-wasm f32', start: tfjs, runs: ({ ranker, alone }) => ranker !== 'trees' && !alone },
  { name: 'sanderling', start: ours() },
  { name: 'sanderling, item by item', start: ours({ grows: true }), other: true, runs: ({ ranker }) => ranker === undefined },
  { name: 'sanderling, whole recommend()', start: wholeRecommend, other: true, runs: retrieves },
];
