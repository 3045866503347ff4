// Runs every check. See `run`, which installs what this needs.
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
const { WebSocket } = require("ws");

const [binary, modules] = process.argv.slice(2);
const example = path.join(__dirname, "..", "..", "examples", "workers");
const directory = fs.mkdtempSync(path.join(os.tmpdir(), "mtlsd-workers-"));
// What every wait is bounded by, in milliseconds.
const PATIENCE = 15_000;
// A replaced certificate has to be in use within this.
const ROTATION = 3_000;

const running = [];
let passed = 0;
let failed = 0;

/** Runs one check, and prints what became of it. */
async function check(name, body) {
  try {
    await within(body(), name);
    passed += 1;
    console.log(`PASS  ${name}`);
  } catch (error) {
    failed += 1;
    console.log(`FAIL  ${name}: ${error.message}`);
  }
}

async function within(promise, what) {
  const timer = new AbortController();
  const late = sleep(PATIENCE, null, { signal: timer.signal }).then(() => {
    throw new Error(`${what} takes too long`);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    late.catch(() => {});
    timer.abort();
  }
}

function equal(seen, expected, what) {
  if (seen !== expected) {
    throw new Error(`${what} is ${JSON.stringify(seen)}, not ${JSON.stringify(expected)}`);
  }
}

async function until(what, look) {
  const deadline = Date.now() + PATIENCE;
  for (;;) {
    const found = await look();
    if (found) return found;
    if (Date.now() > deadline) throw new Error(`waited in vain for ${what}`);
    await sleep(20);
  }
}

const inside = (name) => path.join(directory, name);
const read = (name) => (fs.existsSync(inside(name)) ? fs.readFileSync(inside(name), "utf8") : "");

async function freePort() {
  const probe = net.createServer().listen(0, "127.0.0.1");
  await once(probe, "listening");
  const { port } = probe.address();
  probe.close();
  await once(probe, "close");
  return port;
}

/** Runs a command to its end; what it prints. */
function told(command, ...words) {
  return execFileSync(command, words, {
    cwd: directory,
    encoding: "utf8",
    env: environment,
    stdio: ["ignore", "pipe", "pipe"],
    timeout: PATIENCE,
  });
}

/** Starts a command, with what it says in NAME.log, and waits until `ready` is true of that. */
async function start(name, ready, command, ...words) {
  const log = fs.openSync(inside(`${name}.log`), "a");
  const child = spawn(command, words, { cwd: directory, env: environment, stdio: ["ignore", log, log] });
  fs.closeSync(log);
  running.push({ name, child });
  child.on("error", (error) => fs.appendFileSync(inside(`${name}.log`), `${error}\n`));
  await until(`${name} to start`, () => {
    if (child.exitCode !== null) throw new Error(`${name} does not run:\n${read(`${name}.log`)}`);
    return ready(read(`${name}.log`));
  });
}

const accepts = (port) =>
  new Promise((resolve) => {
    const probe = net.connect(port, "127.0.0.1");
    probe.on("connect", () => resolve(true)).on("error", () => resolve(false));
    probe.on("connect", () => probe.destroy());
  });

/** Copies the example into a directory of ours, with ports that are free in place of its own. */
function copyExample(to, ports) {
  const installed = path.join(example, "node_modules");
  const its = new RegExp(`\\b(${Object.keys(ports).join("|")})\\b`, "g");
  fs.cpSync(example, to, { recursive: true, filter: (from) => from !== installed });
  for (const entry of fs.readdirSync(to, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile() || entry.name.startsWith("package")) continue;
    const copy = path.join(entry.parentPath ?? entry.path, entry.name);
    const text = fs.readFileSync(copy, "utf8");
    fs.writeFileSync(copy, text.replace(its, (port) => ports[port]));
  }
  fs.symlinkSync(modules, path.join(to, "node_modules"));
}

/** Puts the id of the certificate where the Wrangler files of the documentation have a blank. */
function writeId(id) {
  for (const name of ["wrangler.toml", "wrangler.jsonc"]) {
    const text = read(name);
    equal(text.includes("<CERTIFICATE_ID>"), true, `that ${name} has a blank`);
    fs.writeFileSync(inside(name), text.replaceAll("<CERTIFICATE_ID>", id));
  }
}

/** Sends a request; the answer, with its whole body as text. */
async function send(port, options = {}, body = undefined) {
  const request = http.request({ host: "127.0.0.1", port, agent: false, ...options });
  request.end(body);
  const [answer] = await once(request, "response");
  return { status: answer.statusCode, headers: answer.headers, text: await textOf(answer) };
}

async function textOf(answer) {
  const pieces = [];
  for await (const piece of answer) pieces.push(piece);
  return Buffer.concat(pieces).toString();
}

async function json(port, options = {}) {
  const answer = await send(port, options);
  equal(answer.status, 200, `the status (${answer.text.trim()})`);
  return JSON.parse(answer.text);
}

/** The lines of the origin's own log that have `mark`. */
const seenByOrigin = (mark) => read("origin.log").split("\n").filter((line) => line.includes(mark));

const serialOf = (name) => told("openssl", "x509", "-in", name, "-noout", "-serial").trim().split("=")[1];

/** All that Workers do with a binding, in one runtime. */
async function runtime(name, worker, everything, serial) {
  await check(`${name}: the Worker of the documentation gets its answer`, async () => {
    const seen = await json(worker);
    equal(seen.serial, serial, "the serial");
    equal(seen.headers.host, "a-secured-origin.com", "Host");
    equal(seen.url, "/", "the path");
  });
  await check(`${name}: GET, with a query and header fields`, async () => {
    const seen = await json(everything, { path: `/${name}/a%20b?c=d&e`, headers: { "x-mine": "one, two" } });
    equal(seen.url, `/${name}/a%20b?c=d&e`, "the path");
    equal(seen.headers["x-mine"], "one, two", "x-mine");
    const [line] = await until("the origin's log", () => {
      const lines = seenByOrigin(`/${name}/a%20b?c=d&e`);
      return lines.length > 0 && lines;
    });
    equal(line.split(" ")[0], serial, "the serial in the origin's log");
  });
  await check(`${name}: POST, which the origin reads while the client still writes`, async () => {
    const options = { host: "127.0.0.1", port: everything, method: "POST", path: "/", agent: false };
    const word = `first of ${name}`;
    const request = http.request(options);
    request.write(word);
    const mark = `a piece of ${word.length} bytes`;
    await until("the origin's first piece", () => read("app.log").includes(mark));
    request.end(", second");
    const [answer] = await once(request, "response");
    equal(await textOf(answer), `${word}, second`, "what came back");
  });
  await check(`${name}: an answer that the client reads while the origin still writes`, async () => {
    const request = http.get({ host: "127.0.0.1", port: everything, path: "/first-half", agent: false });
    const [answer] = await once(request, "response");
    const pieces = answer[Symbol.asyncIterator]();
    equal((await pieces.next()).value.toString(), "first", "what came first");
    await send(everything, { path: "/second-half" });
    equal((await pieces.next()).value.toString(), ", second", "what came then");
    equal((await pieces.next()).done, true, "that this is the end");
  });
  await check(`${name}: POST of 8 MiB comes back as it was`, async () => {
    const body = crypto.randomBytes(4 << 20).toString("hex");
    const answer = await send(everything, { method: "POST", path: "/" }, body);
    equal(answer.status, 200, "the status");
    equal(answer.text.length, body.length, "its length");
    equal(answer.text === body, true, "that it is the same");
  });
  await check(`${name}: a redirect is handed back`, async () => {
    const answer = await send(everything, { path: "/moved" });
    equal(answer.status, 302, "the status");
    equal(answer.headers.location, "/arrived", "Location");
    equal(answer.headers["proxy-status"], undefined, "Proxy-Status");
  });
  await check(`${name}: a redirect to another origin is handed back as it is`, async () => {
    const answer = await send(everything, { path: "/elsewhere" });
    equal(answer.status, 302, "the status");
    equal(answer.headers.location, "https://another-origin.test/arrived", "Location");
  });
  await check(`${name}: a redirect is followed, with the certificate`, async () => {
    const seen = await json(everything, { path: "/moved?follow" });
    equal(seen.url, "/arrived", "the path");
    equal(seen.serial, serial, "the serial");
  });
  await check(`${name}: WebSocket`, async () => {
    const socket = new WebSocket(`ws://127.0.0.1:${everything}/socket`);
    const hello = once(socket, "message");
    await once(socket, "open");
    equal((await hello)[0].toString(), "hello, CN=my-worker", "what was said first");
    for (const word of ["one", "x".repeat(100_000)]) {
      const answer = once(socket, "message");
      socket.send(word);
      equal((await answer)[0].toString(), word, "what was said back");
    }
    const closed = once(socket, "close");
    socket.close(1000);
    equal((await closed)[0], 1000, "the code of its end");
  });
  // With the origin's own name as Host, the Worker hands on the very request that it was given.
  const page = (origin, more) => ({ headers: { origin, "sec-fetch-site": "cross-site", ...more } });
  for (const more of [{}, { host: "a-secured-origin.com" }]) {
    const how = more.host ? "as it is" : "under the origin's name";
    await check(`${name}: a browser's request is handed on ${how}, for a page that may`, async () => {
      const seen = await json(everything, page("https://app.example", more));
      equal(seen.headers.origin, "https://app.example", "Origin");
      equal(seen.headers["sec-fetch-site"], "cross-site", "Sec-Fetch-Site");
      equal(seen.headers.host, "a-secured-origin.com", "Host");
    });
    await check(`${name}: and refused for another page, with the line to add`, async () => {
      const answer = await send(everything, page("https://evil.example", more));
      equal(answer.status, 403, "the status");
      const line = 'allow_web_origins = ["https://evil.example"] to [bindings.MY_CERT]';
      equal(answer.text.includes(line), true, `that the answer has the line (${answer.text.trim()})`);
    });
  }
}

/** The origin, asked without a certificate. */
async function refused(port) {
  const options = {
    host: "127.0.0.1",
    port,
    path: "/nobody",
    servername: "a-secured-origin.com",
    ca: read("origin-ca.crt"),
    agent: false,
  };
  const [answer] = await once(https.get(options), "response");
  answer.resume();
  equal(answer.statusCode, 400, "the status");
  const [line] = await until("the origin's log", () => {
    const lines = seenByOrigin("/nobody");
    return lines.length > 0 && lines;
  });
  equal(line.startsWith("- - "), true, `that nginx saw no certificate (${line})`);
}

// Nothing that is set for another mtlsd has a say.
const others = Object.entries(process.env).filter(([name]) => !name.startsWith("MTLSD_"));
const environment = { ...Object.fromEntries(others), MTLSD_STORE: inside("store") };

async function main() {
  const names = ["origin", "workerdWorker", "workerdEverything", "miniWorker", "miniEverything", "standIn", "toml", "jsonc"];
  const ports = {};
  for (const name of names) ports[name] = await freePort();
  copyExample(directory, { 8443: ports.origin, 8001: ports.toml });
  told("./make-certificates", directory);
  const upload = ["mtls-certificate", "upload", "--cert", "cert.crt", "--key", "cert.key", "--name", "my-client-cert"];
  writeId(told(binary, ...upload).match(/^ID: (.*)$/m)[1]);

  await start("app", () => fs.existsSync(inside("app.sock")), "node", "app.mjs", "app.sock");
  // As root, nginx's workers would be somebody who may not enter this directory.
  const user = process.geteuid() === 0 ? ["-g", "user root;"] : [];
  const nginx = ["-e", inside("nginx-error.log"), "-p", directory, "-c", inside("nginx.conf"), ...user];
  await start("nginx", () => accepts(ports.origin), "nginx", ...nginx);
  for (const kind of ["toml", "jsonc"]) {
    const words = ["run", "--config", "mtlsd.toml", "--wrangler", `wrangler.${kind}`];
    const listen = `MY_CERT=127.0.0.1:${ports[kind]}`;
    await start(kind, (log) => log.includes('"ready"'), binary, ...words, "--listen", listen);
  }
  // workerd's bindings are those of wrangler.toml, miniflare's those of wrangler.jsonc.
  // The program itself: the script in .bin does not hand signals on to it.
  const workerd = require("workerd").default;
  const addresses = [
    `-sworker=127.0.0.1:${ports.workerdWorker}`,
    `-severything=127.0.0.1:${ports.workerdEverything}`,
    `-eMY_CERT=127.0.0.1:${ports.toml}`,
  ];
  const bound = async () => (await accepts(ports.workerdWorker)) && accepts(ports.workerdEverything);
  await start("workerd", bound, workerd, "serve", "workerd.capnp", ...addresses);
  environment.MY_CERT_ADDRESS = `127.0.0.1:${ports.jsonc}`;
  for (const [script, port] of [["worker.js", ports.miniWorker], ["everything.js", ports.miniEverything]]) {
    const ready = (log) => log.includes(`${script} is at `);
    await start(`miniflare-${script}`, ready, "node", "miniflare.mjs", script, String(port));
  }
  const standsIn = (log) => log.includes("ready at ");
  await start("stand-in", standsIn, "node", path.join(__dirname, "stand-in.cjs"), directory, String(ports.standIn));

  await check("the origin refuses whoever has no certificate", () => refused(ports.origin));
  const first = serialOf("cert.crt");
  await runtime("workerd", ports.workerdWorker, ports.workerdEverything, first);
  await runtime("miniflare", ports.miniWorker, ports.miniEverything, first);
  await check("a Worker that stands in for the binding, as in wrangler dev", async () => {
    equal((await json(ports.standIn)).serial, first, "the serial");
    equal((await json(ports.standIn, { path: "/a?b" })).url, "/a?b", "the path");
  });
  await check("mtlsd fetch tries the binding without a Worker", async () => {
    const words = ["fetch", "MY_CERT", "/fetched", "--wrangler", "wrangler.toml"];
    equal(JSON.parse(told(binary, ...words)).serial, first, "the serial");
  });
  await replaced(ports);
  await check("the example's own script does what it says", exampleScript);
}

/** Replaces the certificate, and waits for the origin to see the new one from both runtimes. */
async function replaced(ports) {
  const serial = serialOf("new-cert.crt");
  told(binary, "mtls-certificate", "replace", "--name", "my-client-cert", "--cert", "new-cert.crt", "--key", "new-cert.key");
  const began = Date.now();
  for (const [name, port] of [["workerd", ports.workerdWorker], ["miniflare", ports.miniWorker]]) {
    await check(`${name}: a replaced certificate is seen by the origin, and nothing was started again`, async () => {
      await until(`serial ${serial}`, async () => (await json(port)).serial === serial);
      const took = Date.now() - began;
      equal(took < ROTATION, true, `that it took ${took} ms, less than ${ROTATION} ms,`);
      // Believe the log of nginx only.
      await until("the origin's log", () => seenByOrigin(serial).length > 0);
    });
  }
}

/** Runs `run` of the example as it stands, but for its ports. */
async function exampleScript() {
  const ports = {};
  for (const its of [8443, 8001, 8787, 8788]) ports[its] = await freePort();
  const copy = inside("example");
  copyExample(copy, ports);
  const child = spawn("./run", [binary], { cwd: copy, env: environment, stdio: ["ignore", "pipe", "pipe"] });
  running.push({ name: "example", child });
  const [said, complaints] = await Promise.all([textOf(child.stdout), textOf(child.stderr), once(child, "close")]);
  equal(child.exitCode, 0, `its exit code (${complaints})`);
  const log = said.trim().split("\n").slice(-3);
  const who = log.map((line) => line.split(" ")[1]).join();
  equal(who, "-,CN=my-worker,CN=my-worker-renewed", "whom its origin saw");
}

/** Ends a process by its id. */
async function end({ child }) {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = once(child, "exit");
  child.kill("SIGTERM");
  const timer = setTimeout(() => child.kill("SIGKILL"), PATIENCE);
  await ended;
  clearTimeout(timer);
}

async function finish() {
  for (const each of running.reverse()) await end(each);
  if (failed > 0) {
    for (const { name } of running) console.log(`${name} said:\n${read(`${name}.log`).slice(-3000)}`);
    console.log(`nginx wrote:\n${read("nginx-error.log").slice(-2000)}`);
  }
  fs.rmSync(directory, { recursive: true, force: true });
}

// What is running is ended also when somebody ends this.
process.on("SIGTERM", () => finish().then(() => process.exit(1)));
main()
  .catch((error) => {
    failed += 1;
    console.log(`FAIL  ${error.message}`);
  })
  .then(finish)
  .then(() => {
    console.log(`${passed} passed, ${failed} failed`);
    process.exit(failed > 0 ? 1 : 0);
  });
