import { createServer } from 'node:http';

/** Acknowledges a report as the collector does. */
export function accept(response, report, status = 'accepted') {
  response.writeHead(status === 'accepted' ? 201 : 200, { 'content-type': 'application/json', 'access-control-allow-origin': '*' });
  response.end(JSON.stringify({ report_id: report.report_id, status }));
}

/** Refuses a report with a problem document. */
export function refuse(response, status, code, headers = {}) {
  response.writeHead(status, { 'content-type': 'application/problem+json', 'access-control-allow-origin': '*', ...headers });
  response.end(JSON.stringify({ type: `urn:sanderling:problem:${code}`, title: code, status, code, detail: code }));
}

/**
 * Starts a real HTTP server that answers report after report with the given steps, then accepts.
 * A step gets the response, the decoded report and the request.
 */
export async function startCollector(steps = []) {
  const received = [];
  const server = createServer(async (request, response) => {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    const body = Buffer.concat(chunks).toString();
    const report = JSON.parse(body);
    received.push({ url: request.url, method: request.method, headers: request.headers, body, report });
    const step = steps.shift() ?? accept;
    step(response, report, undefined, request);
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  const url = `http://127.0.0.1:${server.address().port}`;
  const close = () =>
    new Promise((resolve) => {
      server.close(resolve);
      server.closeAllConnections();
    });
  return { url, received, steps, close };
}
