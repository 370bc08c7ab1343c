import { RecommenderError, type SessionInteraction } from 'sanderling';

import type { Env } from './env.js';

const NAME = '__Host-sanderling-session';
/** Browsers take cookies of 4,096 bytes with name and attributes. */
const MAX_VALUE_BYTES = 3500;
const LASTING_SECONDS = 30 * 86_400;
const ATTRIBUTES = 'Path=/; Secure; HttpOnly';
const SAME_SITE = `${ATTRIBUTES}; SameSite=Lax`;
/** Pages of another origin may be of another site, whose requests have no other cookies: it is one for visits of that site alone. */
const ANY_SITE = `${ATTRIBUTES}; SameSite=None; Partitioned`;

/** The session that a visitor's browser keeps, signed so that nobody makes one up: oldest first; empty where there is none. */
export async function sessionOf(request: Request, env: Env): Promise<SessionInteraction[]> {
  const value = cookieOf(request);
  if (value === undefined) return [];
  const [payload = '', signature = ''] = value.split('.');
  try {
    const bytes = fromBase64(payload);
    const verified = await Promise.all(secretsOf(env).map(async (secret) =>
      crypto.subtle.verify('HMAC', await keyOf(secret, 'verify'), fromBase64(signature), bytes)));
    if (!verified.includes(true)) return [];
    const [madeAt, stored] = JSON.parse(new TextDecoder().decode(bytes)) as [number, [string, string, number][]];
    // A browser forgets it by then; whoever copied it and has not used it does not.
    if (!(seconds() - madeAt <= LASTING_SECONDS)) return [];
    return stored.map(([itemId, kind, timestamp]) => ({ itemId, kind, timestamp }));
  } catch {
    // Cut off or made by somebody else: a visitor without a session.
    return [];
  }
}

/**
 * The `set-cookie` headers of a session, of which the oldest interactions that do not fit are left out; and of what there was before `ALLOWED_ORIGIN` was set,
 * or while it was.
 */
export async function cookiesFor(session: readonly SessionInteraction[], env: Env): Promise<string[]> {
  const [secret] = secretsOf(env);
  if (secret === undefined) throw new RecommenderError('not_found', 'this worker keeps no sessions', { hint: 'set the secret SESSION_SECRET' });
  const key = await keyOf(secret, 'sign');
  let kept = session.map(({ itemId, kind, timestamp }) => [itemId, kind, timestamp] as const);
  let payload = encode([seconds(), kept]);
  while (payload.length > MAX_VALUE_BYTES) {
    kept = kept.slice(Math.ceil(kept.length / 8));
    payload = encode([seconds(), kept]);
  }
  const signature = toBase64(new Uint8Array(await crypto.subtle.sign('HMAC', key, fromBase64(payload))));
  const [wanted, other] = env.ALLOWED_ORIGIN ? [ANY_SITE, SAME_SITE] : [SAME_SITE, ANY_SITE];
  // That one first: to a browser that does not know `Partitioned` both are the same cookie.
  return [forgotten(other), `${NAME}=${payload}.${signature}; Max-Age=${LASTING_SECONDS}; ${wanted}`];
}

/** The `set-cookie` headers that forget the session. */
export function forgottenCookies(): string[] {
  return [SAME_SITE, ANY_SITE].map(forgotten);
}

function forgotten(attributes: string): string {
  return `${NAME}=; Max-Age=0; ${attributes}`;
}

/** The first signs; the others did before it. */
function secretsOf({ SESSION_SECRET: secrets = '' }: Env): string[] {
  return secrets.split(',').map((secret) => secret.trim()).filter((secret) => secret !== '');
}

function seconds(): number {
  return Math.floor(Date.now() / 1000);
}

function cookieOf(request: Request): string | undefined {
  const cookies = (request.headers.get('cookie') ?? '').split(';').map((cookie) => cookie.trim());
  return cookies.find((cookie) => cookie.startsWith(`${NAME}=`))?.slice(NAME.length + 1);
}

function keyOf(secret: string, use: 'sign' | 'verify'): Promise<CryptoKey> {
  return crypto.subtle.importKey('raw', new TextEncoder().encode(secret), { name: 'HMAC', hash: 'SHA-256' }, false, [use]);
}

function encode(value: unknown): string {
  return toBase64(new TextEncoder().encode(JSON.stringify(value)));
}

/** In the alphabet of URLs (RFC 4648, section 5), without padding. */
function toBase64(bytes: Uint8Array): string {
  const text = btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(''));
  return text.replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '');
}

function fromBase64(text: string): Uint8Array<ArrayBuffer> {
  const plain = atob(text.replaceAll('-', '+').replaceAll('_', '/'));
  return Uint8Array.from(plain, (character) => character.charCodeAt(0));
}
