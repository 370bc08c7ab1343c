// What the collector traces of requests, as an OpenTelemetry receiver gets it.
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';

import { collect } from '../../www/demo/cli.mjs';
import { REPO } from './lib/paths.mjs';

/** A receiver of OTLP over HTTP. */
async function receive() {
  const requests = [];
  const server = createServer(async (request, response) => {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    requests.push({ path: request.url, type: request.headers['content-type'], body: Buffer.concat(chunks).toString() });
    response.setHeader('content-type', 'application/json');
    response.end('{}');
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  return { url: `http://127.0.0.1:${server.address().port}`, requests, close: () => new Promise((resolve) => server.close(resolve)) };
}

const attributes = (span) => Object.fromEntries(span.attributes.map(({ key, value }) => [key, Object.values(value)[0]]));

test('a request is a span with its route, status and error, and nothing of who sent it', async () => {
  const receiver = await receive();
  const scratch = await mkdtemp(join(tmpdir(), 'sanderling-traces-'));
  const trace = '4bf92f3577b34da6a3ce929d0e0e4736';
  try {
    const env = { OTEL_EXPORTER_OTLP_ENDPOINT: receiver.url };
    const collector = await collect({ store: join(scratch, 'reports.db'), bundle: join(REPO, 'tests/golden/v1/bundle'), origins: [], env });
    const answer = await fetch(`${collector.url}/v1/reports`, {
      method: 'POST', body: '{"secret":1}', headers: { traceparent: `00-${trace}-00f067aa0ba902b7-01` },
    });
    assert.equal(answer.status, 400);
    await collector.stop();
    assert.ok(receiver.requests.length > 0, 'the last spans are sent before the collector ends');
    assert.ok(receiver.requests.every(({ path, type }) => path === '/v1/traces' && type === 'application/json'));
    const resources = receiver.requests.flatMap(({ body }) => JSON.parse(body).resourceSpans);
    assert.ok(resources.every(({ resource }) => attributes(resource)['service.name'] === 'sanderling-collector'));
    const spans = resources.flatMap(({ scopeSpans }) => scopeSpans).flatMap((scope) => scope.spans);
    const [span, ...others] = spans.filter(({ name }) => name === 'POST /v1/reports');
    assert.deepEqual(others, []);
    assert.equal(span.kind, 2, 'a server span');
    const found = attributes(span);
    assert.equal(found['http.request.method'], 'POST');
    assert.equal(found['http.route'], '/v1/reports');
    assert.equal(Number(found['http.response.status_code']), 400);
    assert.equal(found['error.type'], 'unsupported_format_version');
    assert.notEqual(span.traceId, trace, 'a device cannot be followed by a trace of its own');
    const sent = receiver.requests.map(({ body }) => body).join('');
    for (const private_ of ['secret', '127.0.0.1', trace]) assert.ok(!sent.includes(private_), private_);
  } finally {
    await receiver.close();
    await rm(scratch, { recursive: true, force: true });
  }
});
