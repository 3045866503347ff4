# Two Workers, each on a port of its own. To both of them, MY_CERT is mtlsd.

using Workerd = import "/workerd/workerd.capnp";

const config :Workerd.Config = (
  services = [
    (name = "worker", worker = .worker),
    (name = "everything", worker = .everything),
    # The two lines with MY_CERT are those that `mtlsd run --wrangler` prints.
    (name = "MY_CERT", external = (address = "127.0.0.1:8001", http = (style = proxy))),
  ],
  sockets = [
    (name = "worker", address = "127.0.0.1:8787", http = (), service = "worker"),
    (name = "everything", address = "127.0.0.1:8788", http = (), service = "everything"),
  ],
);

const worker :Workerd.Worker = (
  modules = [(name = "worker.js", esModule = embed "worker.js")],
  compatibilityDate = "2025-07-01",
  bindings = [
    (name = "MY_CERT", service = "MY_CERT"),
  ],
);

const everything :Workerd.Worker = (
  modules = [(name = "everything.js", esModule = embed "everything.js")],
  compatibilityDate = "2025-07-01",
  bindings = [
    (name = "MY_CERT", service = "MY_CERT"),
  ],
);
