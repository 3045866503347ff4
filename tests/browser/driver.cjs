// Runs every check. See `run`, which installs what this needs.
"use strict";

const fs = require("node:fs");
const { chromium } = require("playwright-core");
const world = require("./world.cjs");
const ways = require("./ways.cjs");
const site = require("./site.cjs");

const [binary, browser] = process.argv.slice(2);
let failed = 0;

async function check(name, body) {
  try {
    await body();
    console.log(`PASS  ${name}`);
  } catch (error) {
    failed += 1;
    console.log(`FAIL  ${name}: ${error.message}`);
  }
}

/** Pages as an attacker would serve them: any content, and redirects to anywhere. */
function hostile(request, response) {
  const url = new URL(request.url, "http://hostile");
  if (url.pathname === "/back") {
    response.writeHead(Number(url.searchParams.get("status")), { location: url.searchParams.get("to") });
    response.end();
    return;
  }
  const type = url.searchParams.get("type") ?? "text/html";
  response.writeHead(200, { "content-type": `${type}; charset=utf-8` });
  response.end(url.searchParams.get("body") ?? "<!doctype html><title>hostile</title><body>");
}

const tools = `
  const page = (body, type = "text/html") => location.origin + "/page?type=" + encodeURIComponent(type) + "&body=" + encodeURIComponent(body);
  const back = (status, to) => location.origin + "/back?status=" + status + "&to=" + encodeURIComponent(to);
  const add = (name, properties) => {
    const element = document.createElement(name);
    for (const [property, value] of Object.entries(properties)) element[property] = value;
    document.body.append(element);
  };
  const URLof = (code) => window.URL.createObjectURL(new Blob([code], { type: "text/javascript" }));
`;

/** Sends a request to `target` in every way, from a page of `from`. Returns when it is quiet. */
async function sendAll(context, from, target, quiet) {
  const page = await context.newPage();
  await page.goto(from);
  for (const [number, code] of Object.values(ways).entries()) {
    const url = `${target}/way/${number}`;
    // What a way throws is its own affair: what counts is what arrives.
    const script = `(() => { ${tools} const N = ${number}; ((URL) => { ${code} })(${JSON.stringify(url)}); })()`;
    await page.evaluate(script).catch(() => {});
  }
  let last = -1;
  await world.until("the requests to end", async () => {
    const count = quiet();
    const same = count === last;
    last = count;
    await world.sleep(1000);
    return same;
  });
  for (const open of context.pages()) await open.close().catch(() => {});
}

/** The ways, by number, of which these URLs tell. */
function waysOf(urls) {
  const numbers = urls.map((url) => url?.match(/\/way\/(\d+)/)?.[1]).filter((number) => number !== undefined);
  return new Set(numbers.map(Number));
}

const HERE = ["test", "example", "localhost"].map((domain) => `MAP *.${domain} 127.0.0.1`).join(", ");

async function launch({ proxy, rules = HERE } = {}) {
  const profile = fs.mkdtempSync(world.inside("profile-"));
  return chromium.launchPersistentContext(profile, {
    executablePath: browser,
    headless: true,
    proxy,
    args: [
      "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
      "--disable-component-update", "--disable-sync", "--disable-popup-blocking",
      `--host-resolver-rules=${rules}`,
    ],
  });
}

async function main() {
  world.certify();
  const origin = await world.origin(site.respond);
  const ports = {};
  for (const name of ["api", "open", "site", "tax", "down"]) ports[name] = await world.freePort();
  const pagePort = await world.pages(hostile);
  const evil = `http://evil.test:${pagePort}/`;
  const binding = (name, lines, to = origin.port) => `[bindings.${name}]\norigin = "https://api.example"\nconnect_to = "127.0.0.1:${to}"
certificate = "client.pem"\nkey = "client.key"\nca = "ca.pem"\n${lines}\n`;
  await world.mtlsd(binary, [
    binding("api", `listen = "localhost:${ports.api}"`),
    binding("open", `listen = "0.0.0.0:${ports.open}"\nexpose = true\nhost = ["open", "mtlsd.test"]`),
    binding("site", `listen = "localhost:${ports.site}"\nrewrite_cookies = true`),
    binding("tax", `listen = "localhost:${ports.tax}"\nrewrite_cookies = true`),
    binding("down", `listen = "localhost:${ports.down}"\nallow_web_origins = ["http://app.test:${pagePort}"]`, await world.freePort()),
  ].join("\n"));

  const context = await launch();
  // What the ways do where nothing stands in the way, to a name that browsers trust and one they do not.
  const controls = { seen: [] };
  const controlPort = await world.pages((request, response) => {
    controls.seen.push(request.url);
    response.writeHead(200, { "access-control-allow-origin": "*", "access-control-allow-headers": "*" });
    response.end();
  });
  const expected = {};
  for (const name of ["127.0.0.1", "control.test"]) {
    await check(`control: pages reach http://${name}`, async () => {
      controls.seen.length = 0;
      await sendAll(context, evil, `http://${name}:${controlPort}`, () => controls.seen.length);
      expected[name] = waysOf(controls.seen);
      const missing = Object.keys(ways).filter((_, number) => !expected[name].has(number));
      console.log(`      ${expected[name].size} of ${Object.keys(ways).length} ways arrive; not: ${missing.join(", ") || "none"}`);
      if (expected[name].size < 60) throw new Error(`only ${expected[name].size} ways arrive`);
    });
  }

  const hostileTo = async (context, target, control, from = evil) => {
    origin.seen.length = 0;
    const before = world.accessLines().length;
    await sendAll(context, from, target, () => world.accessLines().length);
    const lines = world.accessLines().slice(before);
    const refused = waysOf(lines.map((line) => line.path));
    const reached = origin.seen.map((request) => `${request.method} ${request.url} ${JSON.stringify(request.headers)}`);
    if (reached.length) throw new Error(`${reached.length} requests reach the origin, as ${reached[0]}`);
    // A tunnel may be opened; what is sent in it is not let through.
    const passed = lines.filter((line) => line.method !== "CONNECT" && ![400, 403, 405, 421].includes(line.status));
    if (passed.length) throw new Error(`not refused: ${JSON.stringify(passed)}`);
    const lost = [...expected[control]].filter((number) => !refused.has(number));
    console.log(`      ${refused.size} of ${expected[control].size} ways were refused`);
    // Not every way is taken to every URL (a favicon is asked for once), but most are.
    if (refused.size < 45) throw new Error(`only ${refused.size} ways were tried; not: ${lost.map((number) => Object.keys(ways)[number]).join(", ")}`);
  };
  for (const [target, control] of [
    [`http://localhost:${ports.api}`, "127.0.0.1"],
    [`http://127.0.0.1:${ports.api}`, "127.0.0.1"],
    [`http://[::1]:${ports.api}`, "127.0.0.1"],
    [`http://api.localhost:${ports.api}`, "127.0.0.1"],
    [`http://localhost.:${ports.api}`, "127.0.0.1"],
    [`http://[::ffff:127.0.0.1]:${ports.api}`, "control.test"],
    [`http://mtlsd.test:${ports.open}`, "control.test"],
    [`http://api.example:${ports.api}`, "control.test"],
  ]) {
    await check(`hostile pages get nothing from ${target}`, () => hostileTo(context, target, control));
  }
  // A page that browsers trust, and take for one of the same site: it also has service workers.
  const near = `http://localhost:${pagePort}/`;
  await check("hostile pages at another port of localhost get nothing", () =>
    hostileTo(context, `http://localhost:${ports.api}`, "127.0.0.1", near));
  await check("a refused navigation says what to do", async () => {
    const page = await context.newPage();
    await page.goto(evil);
    const [popup] = await Promise.all([
      page.waitForEvent("popup"),
      page.evaluate((url) => void open(url), `http://localhost:${ports.api}/`),
    ]);
    await popup.waitForLoadState();
    const text = await popup.textContent("body");
    if (!text.includes("enter the address in the address bar")) throw new Error(text);
    await popup.goto(`http://localhost:${ports.api}/`);
    if (!(await popup.title()).includes("Site")) throw new Error("the address bar does not help");
    await page.close();
    await popup.close();
  });
  await check("mtlsd's own errors are readable for an allowed page, and for no other", async () => {
    const page = await context.newPage();
    const read = (url) => fetch(url).then((response) => response.text(), (error) => `${error}`);
    await page.goto(`http://app.test:${pagePort}/`);
    const allowed = await page.evaluate(read, `http://localhost:${ports.down}/`);
    if (!allowed.includes("mtlsd: ")) throw new Error(allowed);
    await page.goto(evil);
    const refused = await page.evaluate(read, `http://localhost:${ports.down}/`);
    if (!refused.includes("TypeError")) throw new Error(refused);
    await page.close();
  });
  await site.use(context, check, ports);
  await context.close();

  // As DNS rebinding does: an address that first has a hostile page, and then leads to mtlsd.
  const rebound = await launch({ rules: "MAP * 127.0.0.2" });
  const host = await world.switching("127.0.0.2", ports.api);
  await check("a rebound page reads nothing, neither of the origin nor of the configuration", async () => {
    origin.seen.length = 0;
    for (const name of ["api.example", "evil.test", "localhost.example"]) {
      host.leads = false;
      const page = await rebound.newPage();
      await page.goto(`http://${name}:${ports.api}/`);
      host.leads = true;
      for (const options of [{}, { method: "POST", body: "x" }, { headers: { "user-agent": "curl", "x-a": "b" } }]) {
        const read = (options) => fetch("/secret", options).then(async (response) => [response.status, await response.text()]);
        const [status, text] = await page.evaluate(read, options);
        if (![403, 421].includes(status)) throw new Error(`${name}: ${status} ${text}`);
        for (const word of ["bindings here", "mtlsd.test", "leads to"]) {
          if (text.includes(word)) throw new Error(`${name} is told: ${text}`);
        }
      }
      await page.close();
    }
    if (origin.seen.length) throw new Error(`the origin sees ${JSON.stringify(origin.seen)}`);
  });
  await rebound.close();

  const proxy = { server: `http://127.0.0.1:${ports.api}`, bypass: "evil.test" };
  const proxied = await launch({ proxy });
  await check("hostile pages get nothing through a browser that has mtlsd as its proxy", () =>
    hostileTo(proxied, "http://api.example", "control.test"));
  await proxied.close();
}

main()
  .catch((error) => {
    failed += 1;
    console.log(`FAIL  ${error.stack}`);
  })
  .finally(() => {
    if (failed && fs.existsSync(world.inside("mtlsd.log"))) console.log(fs.readFileSync(world.inside("mtlsd.log"), "utf8").slice(-3000));
    world.end();
    process.exit(failed ? 1 : 0);
  });
