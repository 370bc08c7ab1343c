// Measures recommend() in this browser: `bench.html?bundle=./bundle/&calls=240`. The result is on
// the page and, for scripts, in the promise `window.__bench`.
import { Recommender } from './sanderling/dist/browser.js';

import { byId, element } from './dom.js';
import { formatMillis } from './format.js';
import { measure, NUM_WARM_UP_CALLS, round } from './measure.js';

window.__bench = run(new URLSearchParams(location.search)).then(show, fail);

async function run(parameters) {
  const numCalls = Math.max(1, Number(parameters.get('calls') ?? 240));
  const baseUrl = parameters.get('bundle') ?? './bundle/';
  const started = performance.now();
  const recommender = await Recommender.load({ baseUrl, consent: 'none' });
  const loadMillis = round(performance.now() - started);
  const { engine } = recommender;
  const itemIds = Array.from({ length: engine.len() }, (_, row) => engine.itemId(row));
  const timings = await measure(recommender, itemIds, numCalls);
  const { name, version, numItems, bytes } = recommender.bundle;
  recommender.free();
  const bundle = { name, version, num_items: numItems, bytes };
  return { bundle, load_millis: loadMillis, ...timings, user_agent: navigator.userAgent };
}

function show(result) {
  byId('progress').textContent = `${result.num_calls} calls over ${result.bundle.num_items} items, after ${NUM_WARM_UP_CALLS} to warm up.`;
  const entries = [['p50', result.p50_millis], ['p95', result.p95_millis], ['Longest', result.max_millis], ['Load', result.load_millis]];
  byId('summary').replaceChildren(
    ...entries.map(([term, millis]) => element('div', {}, element('dt', {}, term), element('dd', {}, formatMillis(millis)))),
  );
  byId('result').textContent = JSON.stringify(result, null, 2);
  return result;
}

function fail(error) {
  byId('progress').textContent = `Failed: ${error.message}`;
  byId('result').textContent = JSON.stringify({ error: error.toJSON?.() ?? { message: error.message } }, null, 2);
  throw error;
}
