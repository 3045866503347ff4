"""Deliberate mistakes of a first hour. What is said about each is in expected/."""

from dataclasses import dataclass, field


@dataclass
class Mistake:
    """A mistake: a configuration, where there is one, and the commands that meet it."""
    name: str
    config: str | None = None
    commands: list = field(default_factory=lambda: [["check"]])
    variables: dict = field(default_factory=dict)


GOOD = {
    "listen": '"localhost:8001"',
    "origin": '"https://api.test"',
    "ca": '"ca.crt"',
    "certificate": '"client.crt"',
    "key": '"client.key"',
}


def binding(name="payments", **keys):
    """A binding that is right but for `keys`; None leaves one out."""
    lines = [f"{key} = {value}\n" for key, value in {**GOOD, **keys}.items() if value is not None]
    return f"[bindings.{name}]\n" + "".join(lines)


def key(name, **keys):
    return Mistake(name, binding(**keys))


FLAGS = ["--to", "ORIGIN", "--ca", "ca.crt", "--cert", "client.crt", "--key", "client.key"]

MISTAKES = [
    # Where is it?
    Mistake("no configuration", commands=[["check", "--config", "none.toml"], ["fetch", "/", "-c", "none.toml"]]),
    Mistake("empty file", ""),
    Mistake("a key as configuration", "-----BEGIN PRIVATE KEY-----\n"),
    Mistake("not toml", "[bindings.payments\nlisten = 1\n"),
    # Keys.
    key("misspelt listen", listen=None, listn='"localhost:8001"'),
    key("misspelt origin", origin=None, upstream='"https://api.test"'),
    key("misspelt certificate", certificate=None, cert='"client.crt"'),
    key("verification off", verify="false"),
    Mistake("binding in the singular", binding().replace("[bindings.", "[binding.")),
    Mistake("key above its table", 'origin = "https://api.test"\n' + binding()),
    key("server name without origin", origin=None, allow='["files.test"]', server_name='"files.test"'),
    # Values.
    key("port as a number", listen="8202"),
    key("port alone", listen='":8203"'),
    key("port too large", listen='"localhost:99999"'),
    key("no port", listen='"localhost"'),
    key("exposed", listen='"0.0.0.0:8001"'),
    key("unix path too long", listen='"unix:/' + "x" * 120 + '"'),
    key("http origin", origin='"http://api.test"'),
    key("origin without a scheme", origin='"api.test"'),
    key("old tls", tls_min='"1.1"'),
    key("tls as a number", tls_min="1.2"),
    key("duration without a unit", connect_timeout="5"),
    key("boolean in quotes", expose='"true"'),
    key("word in capitals", retry='"Never"'),
    # Files.
    key("missing certificate", certificate='"certs/client.crt"'),
    key("directory as certificate", certificate='"."'),
    key("key of another certificate", key='"second.key"'),
    key("certificate in DER", certificate='"client.der"'),
    key("encrypted key", key='"encrypted.key"'),
    key("empty certificate", certificate='"empty.pem"'),
    key("certificate and key swapped", certificate='"client.key"', key='"client.crt"'),
    key("no credential", key='"credential:client.key"'),
    # Between bindings.
    Mistake("one port twice", binding() + binding("files", origin='"https://files.test"')),
    Mistake("host of another", 'listen = "localhost:8080"\n' + binding(listen=None)
            + binding("files", listen=None, origin='"https://files.test"', host='"api.test"')),
    # The command line.
    Mistake("relative path", binding(), [["fetch", "payments", "v1/me"], ["probe", "payments", "v1/me"]]),
    Mistake("no such binding", binding(), [["fetch", "payment", "/v1/me"]]),
    Mistake("relative path in flag mode",
            commands=[["check", "--to", "ORIGIN", "--cert", "certs/client.crt"],
                      ["run", "--to", "ORIGIN", "--cert", "clients.crt"]]),
    Mistake("two sources", binding(), [["check", "--config", "mtlsd.toml"]],
            {"MTLSD_TO": "ORIGIN", "MTLSD_CERT": "client.crt"}),
    Mistake("listen without a name", binding(), [["check"]], {"MTLSD_LISTEN": "0.0.0.0:8080"}),
    Mistake("exposed by a variable", None, [["run"]],
            {"MTLSD_TO": "ORIGIN", "MTLSD_CERT": "client.crt", "MTLSD_KEY": "client.key",
             "MTLSD_LISTEN": "0.0.0.0:8080"}),
    Mistake("unknown level", None, [["check", *FLAGS, "--log-level", "verbos"]]),
    Mistake("unknown flag", None, [["check", "--jsn"], ["fetch", "/", "--insecure"]]),
    Mistake("unknown command", None, [["chek"]]),
    Mistake("json for programs", binding(listen="8202"), [["check", "--json"]]),
]
