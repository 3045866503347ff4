// A site with a login, and a person who uses it.
"use strict";

const { until } = require("./world.cjs");

const OWN = "https://api.example";

const home = `<!doctype html><title>Site</title><body>
<form method="post" action="/login"><input name="user"><button>Log in</button></form>
<a id="absolute" href="/moved">moved</a>`;

/** The origin: its check against forged requests is that of many frameworks. */
function respond(request, response) {
  const { method, url, headers } = request;
  const page = (status, text, fields = {}) => {
    response.writeHead(status, { "content-type": "text/html; charset=utf-8", ...fields });
    response.end(text);
  };
  const forged = headers.origin !== undefined && headers.origin !== OWN;
  const referred = headers.referer === undefined || headers.referer.startsWith(`${OWN}/`);
  if (!["GET", "HEAD", "OPTIONS"].includes(method) && (forged || !referred)) return page(403, `CSRF: ${headers.origin} ${headers.referer}`);
  const known = (headers.cookie ?? "").includes("session=secret");
  switch (url.split("?")[0]) {
    case "/":
      return page(200, home);
    case "/login":
      return page(303, "", {
        location: `${OWN}/home`,
        "set-cookie": ["session=secret; Domain=api.example; Path=/; Secure; HttpOnly; SameSite=Lax", "seen=1; Secure; SameSite=None"],
      });
    case "/home":
      return known ? page(200, "<!doctype html><title>Home</title>welcome") : page(401, `no session: ${headers.cookie}`);
    case "/moved":
      return page(302, "", { location: `//api.example/home` });
    case "/cookies":
      return page(200, headers.cookie ?? "");
    case "/api":
      return page(known ? 200 : 401, JSON.stringify({ method, origin: headers.origin ?? null }));
    case "/events":
      response.writeHead(200, { "content-type": "text/event-stream" });
      response.write("data: tick\n\n");
      return undefined;
    default:
      return page(200, url);
  }
}

async function use(context, check, ports) {
  const address = `http://site.localhost:${ports.site}`;
  const page = await context.newPage();
  const equal = (seen, expected) => {
    if (seen !== expected) throw new Error(`${JSON.stringify(seen)} and not ${JSON.stringify(expected)}`);
  };
  await check("a person logs in", async () => {
    await page.goto(`${address}/`);
    await page.fill("[name=user]", "me");
    await page.click("button");
    await until("the page behind the login", async () => page.url() === `${address}/home`);
    equal(await page.textContent("body"), "welcome");
  });
  await check("a redirect to the origin's own host stays", async () => {
    await page.goto(`${address}/moved`);
    equal(page.url(), `${address}/home`);
  });
  await check("the site's pages use its API", async () => {
    const told = await page.evaluate(async () => {
      const got = await fetch("/api").then((response) => response.json());
      const put = await fetch("/api", { method: "PUT", body: "{}" }).then((response) => response.json());
      const form = await new Promise((resolve) => {
        const request = new XMLHttpRequest();
        request.open("POST", "/api");
        request.onload = () => resolve(JSON.parse(request.responseText));
        request.send("x");
      });
      return [got.method, put.method, put.origin, form.origin].join(" ");
    });
    equal(told, `GET PUT ${OWN} ${OWN}`);
  });
  await check("the site's pages have events and a WebSocket", async () => {
    const told = await page.evaluate(() =>
      Promise.all([
        new Promise((resolve) => (new EventSource("/events").onmessage = (event) => resolve(event.data))),
        new Promise((resolve) => (new WebSocket(location.origin.replace("http", "ws")).onmessage = (event) => resolve(event.data))),
      ]),
    );
    equal(told.join(" "), "tick hello");
  });
  await check("cookies stay with a name, and not with a port", async () => {
    const cookies = async (url) => {
      await page.goto(`${url}/cookies`);
      return page.textContent("body");
    };
    if (!(await cookies(address)).includes("session=secret")) throw new Error("the cookie is lost");
    equal(await cookies(`http://tax.localhost:${ports.tax}`), "");
    // What the README warns of.
    if (!(await cookies(`http://site.localhost:${ports.tax}`)).includes("session=secret")) throw new Error("ports isolate");
  });
  await page.close();
}

module.exports = { respond, use };
