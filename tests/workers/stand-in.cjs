// Two Workers in miniflare, as `wrangler dev` runs those of examples/workers/wrangler-dev.
//
//   node stand-in.cjs DIRECTORY-OF-THE-EXAMPLE PORT
"use strict";

const path = require("node:path");
const { Miniflare } = require("miniflare");

const [directory, port] = process.argv.slice(2);
const worker = (name, script, more) => ({
  name,
  modules: true,
  scriptPath: path.join(directory, script),
  modulesRoot: directory,
  compatibilityDate: "2025-07-01",
  ...more,
});
const miniflare = new Miniflare({
  host: "127.0.0.1",
  port: Number(port),
  cf: false,
  workers: [
    worker("app", "everything.js", { serviceBindings: { MY_CERT: "my-cert" } }),
    worker("my-cert", "wrangler-dev/my-cert/my-cert.js", {}),
  ],
});
miniflare.ready.then((url) => console.log(`ready at ${url}`));
process.on("SIGTERM", () => miniflare.dispose().then(() => process.exit(0)));
