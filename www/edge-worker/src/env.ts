/** What the worker is configured with; see `wrangler.jsonc`. */
export interface Env {
  /** The files beside the worker. */
  ASSETS?: { fetch(input: string, init?: RequestInit): Promise<Response> };
  /** A bucket that holds the bundle instead (R2, or whatever has its `get`). */
  BUNDLES?: { get(key: string): Promise<{ body: ReadableStream } | null> };
  /** Folder of the bundle, or a `channel.json`, whose champion is served: a path inside BUNDLES or ASSETS, or an address with its scheme. */
  BUNDLE_URL?: string;
  /**
   * Seconds after which a request makes the worker look whether there is another bundle in BUNDLES or at the address, which then takes the place of the one
   * before; 0: never.
   */
  CHECK_SECONDS?: string;
  /** 64 hex digits, or several keys with commas between them; empty accepts an unsigned bundle. */
  PUBLIC_KEY?: string;
  /** Bundles with a smaller `rollback_index` are refused. */
  MIN_ROLLBACK_INDEX?: string;
  /** Origin of the pages that may call from a browser, or several with commas between them. */
  ALLOWED_ORIGIN?: string;
  /**
   * Signs the cookies in which browsers keep their sessions; of several, with commas between them, the first does, and all are believed.
   * Without one sessions come with requests only.
   */
  SESSION_SECRET?: string;
  /** Base URL of the collector that reports are handed on to; without it none are taken. */
  COLLECTOR_URL?: string;
}

/** `https://shop.example`, as browsers write it: without a slash behind it. */
export function allowedOrigins({ ALLOWED_ORIGIN: origins = '' }: Env): string[] {
  return origins.split(',').map((origin) => origin.trim().replace(/\/$/, '')).filter((origin) => origin !== '');
}
