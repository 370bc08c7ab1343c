// Serves a folder on loopback: `node serve.mjs --root DIR [--port N]`. Prints {"url"} and stays up.
import { createReadStream } from 'node:fs';
import { realpath, stat } from 'node:fs/promises';
import { createServer } from 'node:http';
import { extname, join, sep } from 'node:path';
import { pathToFileURL } from 'node:url';

import { readFlags } from './flags.mjs';

const TYPES = {
  '.bin': 'application/octet-stream',
  '.css': 'text/css; charset=utf-8',
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.json': 'application/json',
  '.map': 'application/json',
  '.md': 'text/markdown; charset=utf-8',
  '.mjs': 'text/javascript; charset=utf-8',
  '.onnx': 'application/octet-stream',
  '.png': 'image/png',
  '.svg': 'image/svg+xml',
  '.ts': 'text/plain; charset=utf-8',
  '.wasm': 'application/wasm',
};

/**
 * Starts the server; resolves to its URL and a function that stops it. A path that leaves the
 * folder, directly or through a symbolic link, is answered like one that does not exist.
 */
export async function serve({ root, port = 0 }) {
  const base = await realpath(root);
  const server = createServer((request, response) => {
    answer(base, request, response).catch(() => {
      if (!response.headersSent) response.writeHead(500);
      response.end();
    });
  });
  await new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, '127.0.0.1', resolve);
  });
  const close = () =>
    new Promise((resolve) => {
      server.close(resolve);
      server.closeAllConnections();
    });
  return { url: `http://127.0.0.1:${server.address().port}`, close };
}

async function answer(base, request, response) {
  if (request.method !== 'GET' && request.method !== 'HEAD') {
    response.writeHead(405, { allow: 'GET, HEAD' }).end();
    return;
  }
  const file = await find(base, request.url);
  if (file === undefined) {
    response.writeHead(404, { 'content-type': 'text/plain' }).end('not found\n');
    return;
  }
  const { path, size } = file;
  response.writeHead(200, {
    'cache-control': 'no-cache',
    'content-length': size,
    'content-type': TYPES[extname(path)] ?? 'application/octet-stream',
    'referrer-policy': 'no-referrer',
    'x-content-type-options': 'nosniff',
  });
  if (request.method === 'HEAD') response.end();
  else createReadStream(path).pipe(response);
}

async function find(base, target) {
  let pathname;
  try {
    // No URL parser here: it would resolve the dots that must be refused.
    pathname = decodeURIComponent(target.split(/[?#]/, 1)[0]);
  } catch {
    return undefined;
  }
  const parts = pathname.split('/');
  if (pathname.includes('\0') || pathname.includes('\\') || parts.includes('..')) return undefined;
  const wanted = join(base, ...parts, pathname.endsWith('/') ? 'index.html' : '');
  try {
    const path = await realpath(wanted);
    const { size, isFile } = await stat(path).then((found) => ({ size: found.size, isFile: found.isFile() }));
    return isFile && (path === base || path.startsWith(base + sep)) ? { path, size } : undefined;
  } catch {
    return undefined;
  }
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  const { root, port } = readFlags({ root: { required: true }, port: { default: '0' } });
  const { url } = await serve({ root, port: Number(port) });
  console.log(JSON.stringify({ url }));
}
