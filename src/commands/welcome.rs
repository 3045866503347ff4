//! `mtlsd` alone.

use super::Exit;

/// Says what to do first.
pub fn welcome() -> Exit {
    print!(
        "mtlsd {}: plain HTTP in, the right client certificate out.

  mtlsd demo       see it work: a throw-away CA, an origin that demands certificates, a rotation
  mtlsd init       write mtlsd.toml, a configuration to start from
  mtlsd check      see whether the configuration and every file it names are in order
  mtlsd fetch      make one request through a binding, without serving
  mtlsd run        serve

  mtlsd run --to https://api.example --cert client.crt --key client.key
                   serve one origin without a file; then: curl http://localhost:8080/

mtlsd --help lists everything; mtlsd run --help says more about serving.
",
        env!("CARGO_PKG_VERSION")
    );
    Exit::Success
}
