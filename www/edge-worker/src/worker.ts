import { RecommenderError, type Recommender, type SessionInteraction } from 'sanderling';
import { decodeRequest, encodeResponse } from 'sanderling/wire';

import { engine, replace } from './engine.js';
import { allowedOrigins, type Env } from './env.js';
import { Problem } from './problem.js';
import { forwardReport } from './reports.js';
import { cookiesFor, forgottenCookies, sessionOf } from './session.js';

/** Largest accepted request body. */
const MAX_BODY_BYTES = 64 * 1024;
/** How much of a larger one is read before the connection is given up. */
const MAX_DRAINED_BYTES = 1024 * 1024;
/** How long browsers remember that they may call: as long as Chromium does at most. */
const PREFLIGHT_SECONDS = '7200';
/** When to come back after the bundle could not be loaded. */
const RETRY_AFTER_SECONDS = 5;

/** The part of the host's execution context that is used here. */
interface ExecutionContext {
  waitUntil(work: Promise<unknown>): void;
}

export default {
  async fetch(request: Request, env: Env, context: ExecutionContext): Promise<Response> {
    const response = await route(request, env, context).catch(refusal);
    return withCors(response, request, env);
  },
};

async function route(request: Request, env: Env, context: ExecutionContext): Promise<Response> {
  const { pathname } = new URL(request.url);
  switch (pathname) {
    case '/recommend':
      if (request.method === 'OPTIONS') return new Response(null, { status: 204, headers: { allow: 'POST, OPTIONS' } });
      allow(request, ['POST', 'OPTIONS']);
      return recommend(request, env, context);
    case '/session':
      if (request.method === 'OPTIONS') return new Response(null, { status: 204, headers: { allow: 'POST, DELETE, OPTIONS' } });
      allow(request, ['POST', 'DELETE', 'OPTIONS']);
      fromOwnPages(request, env);
      return request.method === 'DELETE' ? withCookies(...forgottenCookies()) : remember(request, env);
    case '/v1/reports':
      allow(request, ['POST']);
      return forwardReport(request, await readBody(request), env);
    case '/healthz':
      allow(request, ['GET', 'HEAD']);
      return health(env, context);
    default:
      throw Problem.of(404, 'not_found', `there is nothing at ${pathname}`);
  }
}

/** Recommends for the session in the body, or else in the visitor's cookie; nothing of it is kept. */
async function recommend(request: Request, env: Env, context: ExecutionContext): Promise<Response> {
  const body = parse(await readBody(request));
  const options = decodeRequest(body);
  if ((body as { session?: unknown }).session == null) options.session = await sessionOf(request, env);
  // Visitors of one second would have the same chances otherwise.
  options.seed ??= crypto.getRandomValues(new Uint32Array(1))[0]!;
  const recommender = await running(env, context);
  const response = recommender.recommend(options);
  // An engine that failed is being opened again, which this request's end must not stop.
  if (response.faults.some(({ code }) => code === 'engine_failed')) context.waitUntil(restarted(recommender));
  return json(encodeResponse(response));
}

/**
 * Puts interactions behind those that the visitor's browser keeps in a cookie; pages ask for it with the visitor's consent (`device` or `share`)
 * only, and with any other the session is forgotten.
 */
async function remember(request: Request, env: Env): Promise<Response> {
  const { consent, interactions, ...others } = recordOf(parse(await readBody(request)));
  const [unknown] = Object.keys(others);
  if (unknown !== undefined) throw new RecommenderError('invalid_argument', `the body has the unknown key ${JSON.stringify(unknown)}`);
  if (consent !== 'device' && consent !== 'share') return withCookies(...forgottenCookies());
  const more: readonly SessionInteraction[] = decodeRequest({ session: interactions ?? [] }).session ?? [];
  return withCookies(...(await cookiesFor([...(await sessionOf(request, env)), ...more], env)));
}

/** Other sites' pages could otherwise write into a visitor's cookie. */
function fromOwnPages(request: Request, env: Env): void {
  const origin = request.headers.get('origin');
  if (origin === null || origin === new URL(request.url).origin || allowedOrigins(env).includes(origin)) return;
  throw Problem.of(403, 'invalid_argument', `pages of ${origin} may not change sessions here`);
}

function recordOf(body: unknown): Record<string, unknown> {
  if (typeof body === 'object' && body !== null && !Array.isArray(body)) return body as Record<string, unknown>;
  throw new RecommenderError('invalid_argument', 'the body is not an object', { expected: '{"consent": "device", "interactions": [...]}' });
}

function withCookies(...cookies: string[]): Response {
  const headers = new Headers({ 'cache-control': 'no-store' });
  for (const cookie of cookies) headers.append('set-cookie', cookie);
  return new Response(null, { status: 204, headers });
}

async function health(env: Env, context: ExecutionContext): Promise<Response> {
  const recommender = await running(env, context);
  try {
    recommender.hasItem('any');
  } catch (thrown) {
    context.waitUntil(restarted(recommender));
    throw new Problem(503, thrown instanceof RecommenderError ? thrown : unexpected(thrown), { 'retry-after': String(RETRY_AFTER_SECONDS) });
  }
  const { hash, name, version } = recommender.bundle;
  return json({ status: 'ok', bundle: { sha256: hash, name, version } });
}

async function restarted(recommender: Recommender): Promise<void> {
  await recommender.engine.settled?.();
}

/** The recommender; where an attempt to start its engine again did not help, another is loaded in its place, with all the time that this request has. */
async function running(env: Env, context: ExecutionContext): ReturnType<typeof engine> {
  const recommender = await load(env, context);
  if (recommender.engine.state === 'stopped') replace(recommender, env, (work) => context.waitUntil(work));
  return recommender;
}

async function load(env: Env, context: ExecutionContext): ReturnType<typeof engine> {
  try {
    return await engine(env, (work) => context.waitUntil(work));
  } catch (thrown) {
    const cause = thrown instanceof RecommenderError ? thrown : unexpected(thrown);
    // But for wrong settings, what is wrong is for the log: it has addresses.
    const told = cause.code === 'invalid_argument' ? cause : new RecommenderError(cause.code, 'no bundle can be loaded');
    throw new Problem(503, told, { 'retry-after': String(RETRY_AFTER_SECONDS) });
  }
}

/**
 * Reads the body. What is beyond the limit is not kept, but read for a while: a connection that is
 * cut in the middle of an upload loses the answer that says why.
 */
async function readBody(request: Request): Promise<string> {
  const decoder = new TextDecoder();
  let text = '';
  let length = 0;
  const reader = request.body?.getReader();
  for (let step = await reader?.read(); step !== undefined && !step.done; step = await reader?.read()) {
    length += step.value.byteLength;
    if (length > MAX_DRAINED_BYTES) {
      await reader?.cancel();
      break;
    }
    if (length <= MAX_BODY_BYTES) text += decoder.decode(step.value, { stream: true });
  }
  if (length <= MAX_BODY_BYTES) return text + decoder.decode();
  const details = { expected: `at most ${MAX_BODY_BYTES} bytes` };
  throw new Problem(413, new RecommenderError('limit_exceeded', 'the request body is too large', details));
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (thrown) {
    throw new RecommenderError('invalid_argument', 'the request body is not JSON', {}, thrown);
  }
}

function allow(request: Request, methods: readonly string[]): void {
  if (methods.includes(request.method)) return;
  const message = `${request.method} is not allowed here`;
  throw Problem.of(405, 'invalid_argument', message, { allow: methods.join(', ') });
}

function refusal(thrown: unknown): Response {
  if (thrown instanceof Problem) return thrown.toResponse();
  if (thrown instanceof RecommenderError && thrown.code === 'invalid_argument') return new Problem(400, thrown).toResponse();
  if (thrown instanceof RecommenderError && thrown.code === 'not_found') return new Problem(404, thrown).toResponse();
  return new Problem(500, thrown instanceof RecommenderError ? thrown : unexpected(thrown)).toResponse();
}

/** Says nothing about the inside to the outside; the worker's log has the cause. */
function unexpected(thrown: unknown): RecommenderError {
  console.error(thrown);
  return new RecommenderError('internal', 'the worker failed', {}, thrown);
}

function json(body: unknown): Response {
  // Answers depend on the session in the body and belong to one visitor.
  return new Response(JSON.stringify(body), {
    headers: { 'content-type': 'application/json', 'cache-control': 'no-store', 'x-content-type-options': 'nosniff' },
  });
}

function withCors(response: Response, request: Request, env: Env): Response {
  const allowed = allowedOrigins(env);
  if (allowed.length === 0) return response;
  response.headers.append('vary', 'origin');
  const origin = request.headers.get('origin');
  if (origin === null || !allowed.includes(origin)) return response;
  response.headers.set('access-control-allow-origin', origin);
  response.headers.set('access-control-allow-methods', 'POST, GET, DELETE');
  response.headers.set('access-control-allow-credentials', 'true');
  response.headers.set('access-control-allow-headers', 'content-type');
  response.headers.set('access-control-max-age', PREFLIGHT_SECONDS);
  // Devices come back after it.
  response.headers.set('access-control-expose-headers', 'retry-after');
  return response;
}
