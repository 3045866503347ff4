// What the checks share: certificates, an origin that demands one, mtlsd, and waiting.
"use strict";

const { execFileSync, spawn } = require("node:child_process");
const crypto = require("node:crypto");
const { once } = require("node:events");
const fs = require("node:fs");
const http = require("node:http");
const https = require("node:https");
const net = require("node:net");
const os = require("node:os");
const path = require("node:path");
const { setTimeout: sleep } = require("node:timers/promises");

const directory = fs.mkdtempSync(path.join(os.tmpdir(), "mtlsd-browser-"));
const inside = (name) => path.join(directory, name);
// What every wait is bounded by, in milliseconds.
const PATIENCE = 20_000;
let daemon = null;

async function until(what, look) {
  const deadline = Date.now() + PATIENCE;
  for (;;) {
    const found = await look();
    if (found) return found;
    if (Date.now() > deadline) throw new Error(`waited in vain for ${what}`);
    await sleep(20);
  }
}

async function listen(server, host = "127.0.0.1") {
  server.listen(0, host);
  await once(server, "listening");
  return server.address().port;
}

/** A port that is free on every address. */
async function freePort() {
  const probe = net.createServer();
  const port = await listen(probe, "::");
  probe.close();
  await once(probe, "close");
  return port;
}

const openssl = (...words) => execFileSync("openssl", words, { cwd: directory, stdio: "pipe", timeout: PATIENCE });

/** Makes ca.pem, and origin.pem and client.pem with their keys. */
function certify() {
  const key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
  openssl("req", "-x509", ...key, "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=Test CA");
  const issue = (name, subject, extension) => {
    fs.writeFileSync(inside(`${name}.ext`), extension);
    openssl("req", ...key, "-keyout", `${name}.key`, "-out", `${name}.csr`, "-subj", subject);
    openssl("x509", "-req", "-in", `${name}.csr`, "-CA", "ca.pem", "-CAkey", "ca.key", "-set_serial", `0x${crypto.randomBytes(8).toString("hex")}`,
      "-days", "1", "-extfile", `${name}.ext`, "-out", `${name}.pem`);
  };
  issue("origin", "/CN=origin", "subjectAltName=DNS:api.example\nextendedKeyUsage=serverAuth\n");
  issue("client", "/CN=client", "extendedKeyUsage=clientAuth\n");
}

/** An https server that demands a certificate, and keeps every request in `seen`. */
async function origin(respond) {
  const read = (name) => fs.readFileSync(inside(name));
  const seen = [];
  const options = { cert: read("origin.pem"), key: read("origin.key"), ca: read("ca.pem"), requestCert: true };
  const server = https.createServer(options, (request, response) => {
    seen.push({ method: request.method, url: request.url, headers: request.headers });
    respond(request, response);
  });
  server.on("upgrade", (request, socket) => {
    seen.push({ method: request.method, url: request.url, headers: request.headers });
    const accept = crypto.createHash("sha1").update(`${request.headers["sec-websocket-key"]}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest("base64");
    socket.write(`HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`);
    // A text frame that says "hello".
    socket.write(Buffer.from([0x81, 5, ...Buffer.from("hello")]));
    socket.on("error", () => {});
  });
  return { port: await listen(server), seen };
}

/** Starts mtlsd with this configuration, and waits until it is ready. */
async function mtlsd(binary, config) {
  fs.writeFileSync(inside("mtlsd.toml"), config);
  const out = fs.openSync(inside("access.log"), "w");
  const err = fs.openSync(inside("mtlsd.log"), "w");
  daemon = spawn(binary, ["run"], { cwd: directory, stdio: ["ignore", out, err] });
  await until("mtlsd", () => {
    const log = fs.readFileSync(inside("mtlsd.log"), "utf8");
    if (daemon.exitCode !== null) throw new Error(`mtlsd does not run:\n${log}`);
    return log.includes('"ready"');
  });
}

/** The access lines so far. */
function accessLines() {
  const lines = fs.readFileSync(inside("access.log"), "utf8").split("\n");
  return lines.flatMap((line) => {
    try {
      return [JSON.parse(line)];
    } catch {
      return [];
    }
  });
}

/** A server for pages: `respond` has the whole say. */
async function pages(respond) {
  const server = http.createServer(respond);
  return listen(server, "127.0.0.1");
}

/** An address that serves a page until it `leads` to the same port of 127.0.0.1. */
async function switching(address, port) {
  const host = { leads: false };
  const server = net.createServer((socket) => {
    socket.on("error", () => {});
    // The browser may have opened the connection long before it uses it.
    socket.once("data", (request) => {
      if (!host.leads) {
        const page = "<!doctype html><link rel=icon href='data:,'>x";
        const head = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close";
        socket.end(`${head}\r\nContent-Length: ${page.length}\r\n\r\n${page}`);
        return;
      }
      const onward = net.connect(port, "127.0.0.1");
      onward.on("error", () => socket.destroy());
      onward.write(request);
      socket.pipe(onward).pipe(socket);
    });
  });
  server.listen(port, address);
  await once(server, "listening");
  return host;
}

function end() {
  daemon?.kill("SIGKILL");
  fs.rmSync(directory, { recursive: true, force: true, maxRetries: 5 });
}

module.exports = { PATIENCE, accessLines, certify, directory, end, freePort, inside, mtlsd, origin, pages, sleep, switching, until };
