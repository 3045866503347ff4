// One request by one of Node's clients: node client.js CLIENT ARGUMENT ...
// Prints {"status": …, "body": …}, or what the WebSocket client saw.

"use strict";

const http = require("node:http");
const { once } = require("node:events");
const { Readable } = require("node:stream");
const undici = require("undici");
const WebSocket = require("ws");

const PIECES = ["one piece, ", "another, ", "x".repeat(1 << 20)];
const EVENTS = 5;

// Something that has not come by now never will.
setTimeout(() => process.exit(3), 15_000).unref();

async function answer(response) {
  return { status: response.status, body: await response.text() };
}

async function postPieces(url) {
  const body = Readable.toWeb(Readable.from(PIECES.map((piece) => Buffer.from(piece))));
  return answer(await fetch(url, { method: "POST", body, duplex: "half" }));
}

async function withHttp(options, send = (request) => request.end()) {
  const request = http.request(options);
  send(request);
  const [response] = await once(request, "response");
  let body = "";
  for await (const chunk of response) body += chunk;
  return { status: response.statusCode, body, trailers: response.trailers };
}

async function events(url, key) {
  const query = new URLSearchParams({ key });
  const response = await fetch(`${url}/events?${query}`);
  const seen = [];
  for await (const chunk of response.body) {
    query.set("event", seen.length);
    await (await fetch(`${url}/confirm?${query}`)).text();
    seen.push(Buffer.from(chunk).toString());
  }
  return { status: response.status, body: JSON.stringify(seen) };
}

async function echoes(url) {
  const socket = new WebSocket(url);
  await once(socket, "open");
  const seen = [];
  for (const message of ["text, with ümlaut", Buffer.from([0, 1, 254, 255]), Buffer.alloc(1 << 20, "b")]) {
    socket.send(message);
    const [data, isBinary] = await once(socket, "message");
    seen.push(isBinary === Buffer.isBuffer(message) && Buffer.from(message).equals(data));
  }
  socket.ping("hello");
  const [pong] = await once(socket, "pong");
  seen.push(pong.toString() === "hello");
  socket.close(4001, "enough");
  const [code, reason] = await once(socket, "close");
  return { seen, code, reason: reason.toString() };
}

// Waits for the server's close. The ping that comes before, on /ping, ws answers by itself.
async function listens(url) {
  const socket = new WebSocket(url);
  const messages = [];
  socket.on("message", (data) => {
    messages.push(data.toString());
    socket.close(1000);
  });
  const [code, reason] = await once(socket, "close");
  return { messages, code, reason: reason.toString() };
}

const clients = {
  fetch: async (url) => answer(await fetch(url)),
  "fetch-pieces": postPieces,
  "fetch-events": events,
  "proxy-agent": async (proxy, url) => {
    undici.setGlobalDispatcher(new undici.ProxyAgent(proxy));
    return answer(await fetch(url));
  },
  // Reads http_proxy.
  "env-proxy-agent": async (url) => {
    undici.setGlobalDispatcher(new undici.EnvHttpProxyAgent());
    return answer(await fetch(url));
  },
  http: (port, path, host) => withHttp({ port, path, headers: host ? { host } : {} }),
  "http-trailers": (port) =>
    withHttp({ port, method: "POST", headers: { trailer: "x-sum", te: "trailers" } }, (request) => {
      request.write("a body");
      request.addTrailers({ "x-sum": "12" });
      request.end();
    }),
  "ws-echoes": echoes,
  "ws-listens": listens,
};

const [client, ...parameters] = process.argv.slice(2);
clients[client](...parameters).then((seen) => {
  console.log(JSON.stringify(seen));
  process.exit(0);
});
