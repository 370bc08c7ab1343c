// What an edge host would bill: `node in-workerd.mjs BUNDLE` starts the template of www/edge-worker in workerd, asks for one list, and prints
// CPU milliseconds and MiB of the process beside those of a worker that does nothing, as one JSON object.
import { readdir, readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';

import { readBundle } from '../../js/lib/bundle.mjs';
import { installPacked } from '../../js/lib/packed.mjs';
import { bundleWorker, startWorkerd } from '../../js/lib/workerd.mjs';

const TEMPLATE = fileURLToPath(new URL('../../../www/edge-worker/src/worker.ts', import.meta.url));
const TICKS_A_SECOND = 100;

/** The workerd that this process started. */
async function child() {
  for (const pid of await readdir('/proc')) {
    const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '');
    const [, name, rest] = /^\d+ \((.*)\) (.*)$/s.exec(stat) ?? [];
    if (name === 'workerd' && Number(rest.split(' ')[1]) === process.pid) return pid;
  }
  throw new Error('workerd is not running');
}

async function used(pid) {
  const fields = (await readFile(`/proc/${pid}/stat`, 'utf8')).replace(/^.*\) /s, '').split(' ');
  const [, resident] = /VmRSS:\s+(\d+) kB/.exec(await readFile(`/proc/${pid}/status`, 'utf8'));
  return { millis: ((Number(fields[11]) + Number(fields[12])) * 1000) / TICKS_A_SECOND, mib: Number(resident) / 1024 };
}

/** What a worker has used when it has answered once. */
async function afterOneAnswer(modules, assets, ask) {
  const { worker, close } = await startWorkerd({ modules, assets });
  try {
    const answer = await ask(worker);
    if (!answer.ok) throw new Error(`${answer.status}: ${await answer.text()}`);
    await answer.text();
    return await used(await child());
  } finally {
    await close();
  }
}

const project = await installPacked();
const files = await readBundle(process.argv[2]);
const nothing = [{ type: 'ESModule', path: 'worker.mjs', contents: 'export default { fetch: () => new Response("") };' }];
const empty = await afterOneAnswer(nothing, files, (worker) => worker.dispatchFetch('http://worker.invalid/'));
const session = Array.from({ length: 50 }, (_, at) => ({ item_id: `i${at * 997}`, kind: 'view', timestamp: 1_700_000_000 }));
const body = JSON.stringify({ session, limit: 20, now: 1_700_000_100 });
const modules = await bundleWorker({ entry: TEMPLATE, project });
const template = await afterOneAnswer(modules, files, (worker) => worker.dispatchFetch('http://worker.invalid/recommend', { method: 'POST', body }));
console.log(JSON.stringify({ empty, template }));
