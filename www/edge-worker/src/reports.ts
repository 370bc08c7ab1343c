import { RecommenderError } from 'sanderling';

import type { Env } from './env.js';
import { Problem } from './problem.js';

/** Longest that a visitor waits for the collector. */
const TIMEOUT_MS = 10_000;
/** What of the collector's answer a device reads. */
const FORWARDED_HEADERS = ['content-type', 'retry-after'];

/**
 * Hands a report on to the collector, without anything that tells whose it is: no address, no cookie, no referrer. Devices make reports only
 * with the consent `share`; a browser that says no (`Sec-GPC`, `DNT`) is taken at its word here, too.
 */
export async function forwardReport(request: Request, body: string, { COLLECTOR_URL: collector }: Env): Promise<Response> {
  if (!collector) {
    const hint = 'set COLLECTOR_URL to the base URL of the collector';
    throw new Problem(404, new RecommenderError('not_found', 'this worker forwards no reports', { hint }));
  }
  if (request.headers.get('sec-gpc') === '1' || request.headers.get('dnt') === '1') {
    throw Problem.of(403, 'invalid_argument', 'the browser asks not to be counted');
  }
  const address = `${collector.replace(/\/+$/, '')}/v1/reports`;
  let answer: Response;
  try {
    answer = await fetch(address, {
      method: 'POST', headers: { 'content-type': 'text/plain;charset=UTF-8' }, body, redirect: 'manual', signal: AbortSignal.timeout(TIMEOUT_MS),
    });
  } catch (thrown) {
    console.error('the collector cannot be reached:', thrown);
    // The device keeps the report and comes back.
    throw new Problem(502, new RecommenderError('io', 'the collector cannot be reached', {}, thrown), { 'retry-after': '60' });
  }
  const headers = new Headers({ 'cache-control': 'no-store' });
  for (const name of FORWARDED_HEADERS) {
    const value = answer.headers.get(name);
    if (value !== null) headers.set(name, value);
  }
  return new Response(answer.body, { status: answer.status, headers });
}
