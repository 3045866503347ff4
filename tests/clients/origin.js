// An https origin that demands a client certificate and answers with what it saw.
//
//   node origin.js CERTIFICATE KEY AUTHORITY-OF-CLIENTS FILE-TO-DOWNLOAD
//
// It listens on three ports: one for HTTP/1.1 only, one for HTTP/2 only, one for both. The first
// line on standard output says which.

"use strict";

const { createHash } = require("node:crypto");
const { EventEmitter, once } = require("node:events");
const { createReadStream, readFileSync, statSync } = require("node:fs");
const http2 = require("node:http2");
const https = require("node:https");

const [certificate, key, authority, file] = process.argv.slice(2);
const tls = {
  cert: readFileSync(certificate),
  key: readFileSync(key),
  ca: readFileSync(authority),
  requestCert: true,
  rejectUnauthorized: true,
  // Room for the 60 KiB field, beside the others.
  maxHeaderSize: 80 * 1024,
};

const EVENTS = 5;
const confirmations = new EventEmitter();
let declinedBytes = 0;

const places = {
  "/big": download,
  "/trailers": withTrailers,
  "/long-header": longHeader,
  "/status": onlyStatus,
  "/decline": decline,
  "/declined": (_, response) => response.end(String(declinedBytes)),
  "/events": events,
  "/confirm": confirm,
};

function handle(request, response) {
  const url = new URL(request.url, "https://origin.test");
  // Seen by clients that get no body, such as those of HEAD.
  response.setHeader("x-version", request.httpVersion);
  const place = places[url.pathname] ?? echo;
  place(request, response, url.searchParams);
}

// All there is to know about a request, as JSON.
async function echo(request, response) {
  const hash = createHash("sha256");
  let bytes = 0;
  for await (const chunk of request) {
    bytes += chunk.length;
    hash.update(chunk);
  }
  const seen = {
    version: request.httpVersion,
    method: request.method,
    path: request.url,
    host: request.headers.host ?? request.headers[":authority"],
    client: clientOf(request),
    headers: request.headers,
    trailers: request.trailers,
    bytes,
    sha256: hash.digest("hex"),
  };
  const body = Buffer.from(JSON.stringify(seen));
  response.setHeader("content-type", "application/json");
  response.setHeader("content-length", body.length);
  response.end(body);
}

function clientOf(request) {
  const connection = request.stream?.session ?? request;
  return connection.socket.getPeerCertificate().subject?.CN;
}

function download(_, response) {
  response.setHeader("content-length", statSync(file).size);
  createReadStream(file).pipe(response);
}

function withTrailers(_, response) {
  response.setHeader("trailer", "x-checksum");
  response.write("a body, ");
  response.addTrailers({ "x-checksum": "4711" });
  response.end("and then a trailer");
}

function longHeader(_, response, parameters) {
  response.setHeader("x-long", "v".repeat(Number(parameters.get("size"))));
  response.end("long");
}

function onlyStatus(_, response, parameters) {
  response.setHeader("etag", '"one"');
  response.writeHead(Number(parameters.get("code")));
  response.end();
}

// Says no before the body, and counts what of it comes all the same.
function decline(request, response) {
  declinedBytes = 0;
  request.on("data", (chunk) => (declinedBytes += chunk.length));
  request.on("error", () => {});
  response.writeHead(413);
  response.end("declined");
}

// Sends an event only after the client has said, by another request, that the one before is there.
async function events(_, response, parameters) {
  response.writeHead(200, { "content-type": "text/event-stream" });
  for (let event = 0; event < EVENTS; event += 1) {
    const confirmed = once(confirmations, `${parameters.get("key")} ${event}`);
    response.write(`data: ${event}\n\n`);
    await confirmed;
  }
  response.end();
}

function confirm(_, response, parameters) {
  confirmations.emit(`${parameters.get("key")} ${parameters.get("event")}`);
  response.end("confirmed");
}

// Node says "100 Continue" by itself unless somebody listens for this.
function onExpectation(request, response) {
  if (!request.url.startsWith("/decline")) response.writeContinue();
  handle(request, response);
}

async function start(server) {
  server.on("request", handle);
  server.on("checkContinue", onExpectation);
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return server.address().port;
}

async function main() {
  const ports = {
    one: await start(https.createServer({ ...tls, ALPNProtocols: ["http/1.1"] })),
    two: await start(http2.createSecureServer({ ...tls, ALPNProtocols: ["h2"] })),
    both: await start(http2.createSecureServer({ ...tls, allowHTTP1: true })),
  };
  console.log(JSON.stringify(ports));
}

main();
