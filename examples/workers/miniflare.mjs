// One Worker in miniflare, which is what `wrangler dev` runs Workers in.
//
//   node miniflare.mjs worker.js 8787
import { HttpOptions_Style, Miniflare } from "miniflare";

const [script, port] = process.argv.slice(2);
const miniflare = new Miniflare({
  modules: true,
  scriptPath: script,
  compatibilityDate: "2025-07-01",
  host: "127.0.0.1",
  port: Number(port),
  // Nothing is asked of the network for the sake of `request.cf`.
  cf: false,
  serviceBindings: {
    MY_CERT: {
      external: {
        address: process.env.MY_CERT_ADDRESS ?? "127.0.0.1:8001",
        http: { style: HttpOptions_Style.PROXY },
      },
    },
  },
});
console.log(`${script} is at ${await miniflare.ready}`);
for (const signal of ["SIGINT", "SIGTERM"]) {
  process.on(signal, async () => {
    await miniflare.dispose();
    process.exit(0);
  });
}
