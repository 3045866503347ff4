// Drives Chromium over the page of a real mtlsd. See `run` beside this.
"use strict";

const { execFileSync, spawn } = require("node:child_process");
const fs = require("node:fs");
const http = require("node:http");
const https = require("node:https");
const path = require("node:path");
const { chromium } = require("playwright-core");

const [binary, work, shots] = process.argv.slice(2);
const axe = require.resolve("axe-core/axe.min.js");
let failed = 0;

function report(name, wrong) {
  if (wrong) failed += 1;
  console.log(`${wrong ? "FAIL" : "PASS"}  ${name}${wrong ? `: ${wrong}` : ""}`);
}

async function until(check, seconds = 10) {
  const end = Date.now() + seconds * 1000;
  for (;;) {
    const value = await check();
    if (value || Date.now() > end) return value;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

const file = (name) => path.join(work, name);
const openssl = (...words) =>
  execFileSync("openssl", words, { stdio: ["ignore", "pipe", "pipe"], timeout: 30000 });

function authority() {
  openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout",
    file("ca.key"), "-out", file("ca.crt"), "-subj", "/CN=Page CA", "-days", "30",
    "-addext", "keyUsage=critical,keyCertSign");
}

// A certificate and its key in one file, replaced at once as renewers do.
function issue(name, subject, serial, into) {
  openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout",
    file(`${name}.key`), "-out", file(`${name}.csr`), "-subj", subject);
  fs.writeFileSync(file("ext"), "subjectAltName=DNS:localhost,IP:127.0.0.1\n");
  openssl("x509", "-req", "-in", file(`${name}.csr`), "-CA", file("ca.crt"), "-CAkey", file("ca.key"),
    "-set_serial", serial, "-days", "9", "-extfile", file("ext"), "-out", file(`${name}.crt`));
  const pair = fs.readFileSync(file(`${name}.crt`), "utf8") + fs.readFileSync(file(`${name}.key`), "utf8");
  fs.writeFileSync(file(`${into}.new`), pair);
  fs.renameSync(file(`${into}.new`), file(into));
}

function get(port, target, headers = {}) {
  return new Promise((resolve, reject) => {
    http.get({ host: "127.0.0.1", port, path: target, headers }, (answer) => {
      answer.resume();
      answer.on("end", () => resolve(answer.statusCode));
    }).on("error", reject);
  });
}

async function start() {
  authority();
  issue("origin", "/CN=origin", "7", "origin.pem");
  issue("one", "/CN=client <script>window.pwned=1<\\/script>", "4097", "client.pem");
  issue("other", "/CN=steady", "5000", "steady.pem");
  const origin = https.createServer({
    cert: fs.readFileSync(file("origin.pem")), key: fs.readFileSync(file("origin.pem")),
    ca: fs.readFileSync(file("ca.crt")), requestCert: true, rejectUnauthorized: true,
  }, (request, answer) => answer.end("ok"));
  await new Promise((resolve) => origin.listen(0, "127.0.0.1", resolve));
  const url = `https://localhost:${origin.address().port}`;
  const binding = (name, certificate) => `[bindings.${name}]\nlisten = "127.0.0.1:0"\norigin = "${url}"\n`
    + `certificate = "${certificate}"\nca = "ca.crt"\n`;
  fs.writeFileSync(file("mtlsd.toml"), '[admin]\nlisten = "127.0.0.1:0"\n[log]\nformat = "json"\naccess = false\n'
    + binding("payments", "client.pem") + binding("tax-office", "steady.pem"));
  const log = fs.openSync(file("log"), "w");
  const mtlsd = spawn(binary, ["run", "--config", file("mtlsd.toml")], { stdio: ["ignore", "ignore", log] });
  const lines = () => fs.readFileSync(file("log"), "utf8").split("\n").filter(Boolean).map((l) => JSON.parse(l));
  if (!(await until(() => lines().some((line) => line.message === "ready")))) {
    throw new Error(fs.readFileSync(file("log"), "utf8"));
  }
  const port = (line) => Number(line.split(":").pop());
  const admin = port(lines().find((line) => line.message === "serving the admin endpoint").listener);
  const listen = port(lines().find((line) => line.binding === "payments" && line.listen).listen);
  return { mtlsd, origin, admin, listen };
}

async function open(browser, world, options = {}) {
  const context = await browser.newContext(options);
  const page = await context.newPage();
  const seen = { complaints: [], requests: [] };
  page.on("console", (message) => { if (message.type() === "error") seen.complaints.push(message.text()); });
  page.on("pageerror", (error) => seen.complaints.push(String(error)));
  page.on("request", (request) => seen.requests.push(request.url()));
  await page.goto(`http://localhost:${world.admin}/`);
  return { context, page, seen };
}

const serial = (page) => page.locator("#binding-payments").locator("xpath=..").locator(".serial").textContent();

async function live(browser, world) {
  const { context, page, seen } = await open(browser, world, { viewport: { width: 1000, height: 900 } });
  report("the first certificate is shown", (await serial(page)) === "1001" ? "" : await serial(page));
  report("a subject is text", (await page.evaluate(() => window.pwned)) === undefined ? "" : "its script ran");
  await page.locator("#details-payments summary").click();
  for (let count = 0; count < 30; count += 1) await get(world.listen, "/");
  const rate = () => page.locator(".figures dd").first().textContent();
  const counted = await until(async () => (await rate()) !== "0", 12);
  report("requests are counted", counted ? "" : "there are none");
  await page.screenshot({ path: path.join(shots, "page.png") });

  issue("two", "/CN=client-2", "4098", "client.pem");
  const moved = await until(async () => (await serial(page)) === "1002", 5);
  report("a rotation is seen within five seconds", moved ? "" : await serial(page));
  report("what was opened stays open", (await page.locator("#details-payments").getAttribute("open")) !== null ? "" : "it closed");

  fs.copyFileSync(file("client.pem"), file("good.pem"));
  fs.writeFileSync(file("client.pem"), fs.readFileSync(file("two.crt"), "utf8") + fs.readFileSync(file("one.key"), "utf8"));
  const banner = page.locator(".card.error .banner");
  const shown = await until(async () => (await banner.count()) > 0, 8);
  report("a broken pair shows a banner", shown ? "" : "there is none");
  const first = await page.locator("h2").first().textContent();
  report("trouble comes first", first.startsWith("payments") ? "" : first);
  report("the title tells of trouble", (await page.title()).includes("failing") ? "" : await page.title());
  await page.screenshot({ path: path.join(shots, "page-rejected.png") });
  fs.renameSync(file("good.pem"), file("client.pem"));
  const calm = await until(async () => (await banner.count()) === 0, 10);
  report("the banner goes when the files are right again", calm ? "" : "it stays");

  await page.addScriptTag({ path: axe }).catch(() => {});
  report("nothing was refused by the policy, nothing failed", seen.complaints.filter((c) => !c.includes("axe") && !c.includes("inline script")).join("; "));
  const elsewhere = seen.requests.filter((url) => !url.startsWith(`http://localhost:${world.admin}/`) && !url.startsWith("data:"));
  report("no request goes elsewhere", elsewhere.join("; "));
  await context.close();
}

async function accessible(browser, world) {
  // The policy keeps foreign scripts out, axe's too.
  const { context, page } = await open(browser, world, { bypassCSP: true });
  await page.addScriptTag({ path: axe });
  const found = await page.evaluate(() => globalThis.axe.run());
  const serious = found.violations.filter((one) => ["serious", "critical"].includes(one.impact));
  report("axe-core finds nothing serious", serious.map((one) => `${one.id}: ${one.nodes.map((n) => n.html).join(" ")}`).join("; "));
  await page.keyboard.press("Tab");
  const focused = await page.evaluate(() => document.activeElement.tagName);
  report("the keyboard reaches it", focused === "BODY" ? "nothing is focused" : "");
  await context.close();
}

async function plain(browser, world) {
  const { context, page } = await open(browser, world, { javaScriptEnabled: false });
  const text = await page.content();
  const wanted = ["payments", "tax-office", "Requests/s", "http-equiv=\"refresh\"", "<svg"];
  report("without JavaScript it is complete", wanted.filter((one) => !text.includes(one)).join("; "));
  await page.goto(`http://localhost:${world.admin}/?q=tax`);
  const cards = await page.locator("section.card").count();
  report("the search works without it", cards === 1 ? "" : `${cards} bindings`);
  await context.close();
}

async function looks(browser, world) {
  const colors = [];
  for (const colorScheme of ["light", "dark"]) {
    const { context, page } = await open(browser, world, { colorScheme, viewport: { width: 360, height: 800 } });
    colors.push(await page.evaluate(() => getComputedStyle(document.body).backgroundColor));
    const wide = await page.evaluate(() => document.documentElement.scrollWidth);
    report(`nothing is cut off on a narrow screen, ${colorScheme}`, wide <= 360 ? "" : `${wide} pixels wide`);
    await page.screenshot({ path: path.join(shots, `page-narrow-${colorScheme}.png`) });
    await context.close();
  }
  report("it is dark in the dark", colors[0] !== colors[1] ? "" : colors[0]);
}

async function main() {
  const world = await start();
  const browser = await chromium.launch({
    executablePath: "/usr/bin/chromium",
    args: ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
      "--disable-background-networking", "--disable-component-update", "--disable-sync"],
  });
  try {
    await live(browser, world);
    await accessible(browser, world);
    await plain(browser, world);
    await looks(browser, world);
    const foreign = await get(world.admin, "/", { Host: "evil.example" });
    report("a foreign Host is refused", foreign === 421 ? "" : String(foreign));
  } finally {
    await browser.close();
    world.mtlsd.kill();
    world.origin.closeAllConnections();
    world.origin.close();
  }
  console.log(`${failed} checks failed`);
  process.exit(failed ? 1 : 0);
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
