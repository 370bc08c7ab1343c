/** The shared session as it is sent: the same bytes as the Rust crates make of the same content (`docs/formats/shared-session.md`). */
import { list, record, text } from './arguments.js';
import { RecommenderError } from './errors.js';

const MAX_BYTES = 8192;
const PADDED_BYTES = 1024;
const MAX_INTERACTIONS = 50;
/** In characters, not UTF-16 units: what the collector counts. */
const MAX_ITEM_ID_CHARS = 512;
const KIND = /^[a-z0-9_-]{1,32}$/;
/** Half a character, which UTF-8 does not have. */
const LONE_SURROGATE = /\p{Surrogate}/u;
const DAY_SECONDS = 86_400;

/** One interaction as it is shared: on what, and what was done; not when. */
export interface SharedInteraction {
  itemId: string;
  kind: string;
}

/** What is shared of one session. */
export interface SharedSession {
  /** 32 lower-case hex digits, drawn for this session alone. */
  sessionId: string;
  /** `recommender.bundle.hash`. */
  bundleHash: string;
  /** Unix seconds: the start of the UTC day in which the session ended. */
  day: number;
  /** Oldest first. */
  interactions: readonly SharedInteraction[];
}

/** Start of the UTC day of a time in Unix seconds. */
export function dayOf(time: number): number {
  return Math.floor(time / DAY_SECONDS) * DAY_SECONDS;
}

/** Whether the format holds an interaction. */
export function isShareable({ itemId, kind }: SharedInteraction): boolean {
  return KIND.test(kind) && itemId !== '' && [...itemId].length <= MAX_ITEM_ID_CHARS && !LONE_SURROGATE.test(itemId);
}

/**
 * The body of a session: its newest interactions that fit, padded. Those that the format does not hold are left out.
 *
 * @throws RecommenderError `invalid_argument` where none is left, and for an id, a hash or a day that is none.
 */
export function encodeSharedSession(session: SharedSession): string {
  const { sessionId, bundleHash, day } = record(session, 'session') as unknown as SharedSession;
  check('sessionId', '32 lower-case hex digits', sessionId, /^[0-9a-f]{32}$/.test(sessionId));
  check('bundleHash', '64 lower-case hex digits', bundleHash, /^[0-9a-f]{64}$/.test(bundleHash));
  check('day', 'the start of a UTC day in Unix seconds', day, Number.isSafeInteger(day) && day >= 0 && day === dayOf(day));
  const encode = (interactions: readonly object[], padding: string) =>
    JSON.stringify({ format_version: 1, session_id: sessionId, bundle_sha256: bundleHash, day, interactions, padding });
  const newest = newestThatFit(list(session.interactions, 'interactions').map(checkInteraction), MAX_BYTES - numBytes(encode([], '')));
  check('interactions', 'at least one that the format holds', 'none', newest.length > 0);
  const length = numBytes(encode(newest, ''));
  return encode(newest, ' '.repeat(Math.ceil(length / PADDED_BYTES) * PADDED_BYTES - length));
}

function newestThatFit(interactions: readonly SharedInteraction[], bytes: number): object[] {
  const newest: object[] = [];
  let left = bytes;
  for (const { itemId, kind } of interactions.filter(isShareable).reverse()) {
    const encoded = { item_id: itemId, kind };
    // With the comma, which the last one does not have.
    left -= numBytes(JSON.stringify(encoded)) + 1;
    if (left < 0 || newest.length === MAX_INTERACTIONS) break;
    newest.unshift(encoded);
  }
  return newest;
}

function checkInteraction(value: unknown, at: number): SharedInteraction {
  const from = record(value, `interactions[${at}]`);
  return { itemId: text(from['itemId'], `interactions[${at}].itemId`), kind: text(from['kind'], `interactions[${at}].kind`) };
}

function check(name: string, expected: string, found: unknown, isRight: boolean): void {
  if (!isRight) throw new RecommenderError('invalid_argument', `${name} is not right`, { expected, found: String(found) });
}

function numBytes(text: string): number {
  return new TextEncoder().encode(text).length;
}
