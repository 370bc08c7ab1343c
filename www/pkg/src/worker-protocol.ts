/** What a page and its worker say to each other; all of it survives `structuredClone`. */
import type { ErrorCode, ErrorDetails } from './errors.js';
import type { BundleInfo } from './types.js';

/** Methods of a recommender that a worker calls for its page. */
export const METHODS = [
  'observe', 'recommend', 'rank', 'similar', 'hasItem', 'recordOutcome', 'setConsent', 'erase', 'export', 'settled',
] as const;
/** Its properties, which the page asks for. */
export const PROPERTIES = ['consent', 'session'] as const;
export type Property = (typeof PROPERTIES)[number];
export type Method = (typeof METHODS)[number];

export interface Call {
  id: number;
  method: Method | Property | 'load' | 'preview' | 'flush' | 'written';
  args: readonly unknown[];
}

export interface WireError {
  code: ErrorCode;
  summary: string;
  details: ErrorDetails;
}

export type Answer = { id: number; result: unknown } | { id: number; error: WireError } | { revision: number };

/** The answer to `load`. */
export interface Loaded {
  bundle: BundleInfo;
}
