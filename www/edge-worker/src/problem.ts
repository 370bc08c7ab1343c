import { RecommenderError, type ErrorCode } from 'sanderling';
import { ERROR_CODES } from 'sanderling/errors';

/** A refusal with its HTTP status; the body is a problem document that carries the engine's code. */
export class Problem extends Error {
  readonly status: number;
  readonly cause: RecommenderError;
  readonly headers: Record<string, string>;

  constructor(status: number, cause: RecommenderError, headers: Record<string, string> = {}) {
    super(cause.message);
    this.status = status;
    this.cause = cause;
    this.headers = headers;
  }

  /** Makes the refusal for a code and a message. */
  static of(status: number, code: ErrorCode, message: string, headers: Record<string, string> = {}): Problem {
    return new Problem(status, new RecommenderError(code, message), headers);
  }

  /** The `application/problem+json` response. */
  toResponse(): Response {
    const { code, summary, details } = this.cause;
    const body = {
      type: `urn:sanderling:problem:${code}`,
      title: ERROR_CODES[code],
      status: this.status,
      code,
      detail: summary,
      expected: details.expected,
      found: details.found,
    };
    const headers = { 'content-type': 'application/problem+json', 'cache-control': 'no-store', ...this.headers };
    return new Response(JSON.stringify(body), { status: this.status, headers });
  }
}
