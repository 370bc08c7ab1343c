// What tests of shared sessions begin with: a fixture, and for each of them a storage and what starts sharing. Importing it registers the hooks.
import { after, afterEach, before, beforeEach } from 'node:test';

import { openFixture } from './fixture.mjs';
import { importFrom } from './node.mjs';

export const IDLE = 1800;
export const DAY = 86_400;
export const COLLECTOR = 'https://collector.example/';

export let fixture;
export let SharedSessions;
export let encodeSharedSession;
export let storage;
export let start;
/** When each test begins: every consent is given at about that time. */
export let now;

before(async () => {
  fixture = await openFixture();
  ({ SharedSessions, encodeSharedSession } = await importFrom(fixture.project, 'sessions'));
});

beforeEach(() => {
  storage = new fixture.sanderling.MemoryStorage();
  now = Math.floor(Date.now() / 1000);
  const started = [];
  start = async (recommender, options = {}) => {
    const sharing = await SharedSessions.start(recommender, {
      collectorUrl: COLLECTOR, consent: 'sessions', storage, autoSend: false, maxDelaySeconds: 0, fetch: collector().fetch, ...options,
    });
    started.push(sharing);
    return sharing;
  };
  start.stop = () => started.forEach((sharing) => sharing.stop());
});

afterEach(() => {
  start.stop();
  delete globalThis.navigator;
});

after(() => fixture.engine.free());

export const share = (options = {}) => fixture.load({ consent: 'share', ...options });
export const json = (status, body, headers = {}) => new Response(JSON.stringify(body), { status, headers: { 'content-type': 'application/json', ...headers } });
export const problem = (status, code, headers = {}) => json(status, { code }, { 'content-type': 'application/problem+json', ...headers });

/** A fetch that answers request after request with the given steps, then as a collector does. */
export function collector(...steps) {
  const received = [];
  const counted = new Set();
  const fetch = async (url, init) => {
    const session = JSON.parse(init.body);
    received.push({ url, init, body: init.body, session });
    const step = steps.shift();
    if (step !== undefined) return step(session, counted);
    const status = counted.has(session.session_id) ? 'duplicate' : 'accepted';
    counted.add(session.session_id);
    return json(status === 'accepted' ? 201 : 200, { session_id: session.session_id, status });
  };
  return { fetch, received, counted, steps };
}

/** Views of the first `count` items, a minute apart. */
export function view(recommender, count = 3, from = now + 10, kind = 'view') {
  fixture.itemIds.slice(0, count).forEach((itemId, at) => recommender.observe({ itemId, kind, timestamp: from + 60 * at }));
  return from + 60 * (count - 1);
}

/** A moment at which a session that ended at `end` goes on no more. */
export const later = (end) => end + IDLE + 1;

/** A storage, and the keys that were written. */
export function watched() {
  const inner = new fixture.sanderling.MemoryStorage();
  const writes = [];
  return { writes, storage: Object.assign(Object.create(inner), {
    description: 'watched',
    get: (key) => inner.get(key),
    entries: () => inner.entries(),
    clear: () => inner.clear(),
    update: (key, change) => inner.update(key, (current) => {
      const next = change(current);
      if (current !== undefined || next !== undefined) writes.push(key);
      return next;
    }),
  }) };
}

/** Lives on for some seconds, half a minute at a time, with what timers begin. */
export async function live(timers, seconds) {
  for (let passed = 0; passed < seconds; passed += 30) {
    timers.tick(30_000);
    for (let turn = 0; turn < 20; turn += 1) await new Promise(setImmediate);
  }
}
