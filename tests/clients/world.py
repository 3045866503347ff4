"""The certificates, the origins, and mtlsd between them and whoever comes."""

import json
import os
import select
import socket
import ssl
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from checks import PATIENCE, Wrong, expect, until
from feed import Feed

HERE = Path(__file__).parent

# For each binding the origin it leads to, and its further lines. The origin `one` speaks HTTP/1.1
# only, `two` HTTP/2 only, `both` the one that the other side prefers.
BINDINGS = {
    "one": ("one", ""),
    "two": ("two", ""),
    "both": ("both", ""),
    "only-one": ("both", 'protocol = "http1"'),
    "only-two": ("both", 'protocol = "http2"'),
    "brew": ("brew", ""),
    "chat": ("chat", ""),
    "calls": ("calls", ""),
    "mortal": ("mortal", ""),
    "dead": ("dead", ""),
}
SPEAKS = {"one": "1.1", "two": "2.0", "only-one": "1.1", "only-two": "2.0"}


class Authority:
    """A certificate authority of openssl's."""

    def __init__(self, directory, name):
        self.directory = directory
        self.certificate, self.key = make_certificate(directory, name)

    def issue(self, name, hosts, usage):
        """The paths of a certificate and its key."""
        return make_certificate(
            self.directory, name, "-CA", self.certificate, "-CAkey", self.key,
            "-addext", "subjectAltName=" + ",".join(f"DNS:{host}" for host in hosts),
            "-addext", f"extendedKeyUsage={usage}",
            "-addext", "basicConstraints=critical,CA:FALSE")


def make_certificate(directory, name, *arguments):
    paths = directory / f"{name}.crt", directory / f"{name}.key"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
               "-nodes", "-days", "2", "-subj", f"/CN={name}", "-out", paths[0], "-keyout", paths[1]]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True,
                          stdin=subprocess.DEVNULL, timeout=PATIENCE, check=False)
    if done.returncode != 0:
        sys.exit(f"openssl failed:\n{done.stderr}")
    return paths


class AnyMethod(BaseHTTPRequestHandler):
    """An origin for BREW, which is not in the fixed list of methods that Node's HTTP/1.1 knows."""

    protocol_version = "HTTP/1.1"

    def do_BREW(self):  # pylint: disable=invalid-name
        answer = json.dumps({"method": self.command, "version": "1.1"}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        """Says nothing."""


class World:
    """Everything that runs. `end` has to be called, whatever has happened."""

    def __init__(self, directory):
        self.directory = directory
        self.running = []
        self.big = directory / "big"
        self.big.write_bytes(os.urandom(24 << 20))
        self.log = directory / "mtlsd.log"
        servers, clients = Authority(directory, "servers"), Authority(directory, "clients")
        hosts = [f"{name}.test" for name in BINDINGS]
        self.server = servers.issue("origin", hosts, "serverAuth")
        self.client = clients.issue("client", ["client.test"], "clientAuth")
        self.servers, self.clients = servers.certificate, clients.certificate

    def start(self, binary):
        tls = [*self.server, self.clients]
        self.origins = self.spawn("origin", ["node", HERE / "origin.js", *tls, self.big])
        for name in ("calls", "mortal"):
            self.origins |= self.spawn(name, [sys.executable, HERE / "grpc_origin.py", *tls, name])
        self.mortal = self.running[-1]
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=self.clients)
        context.load_cert_chain(*self.server)
        context.verify_mode = ssl.CERT_REQUIRED
        self.feed = Feed(context)
        self.origins["chat"] = self.feed.port
        self.origins["brew"] = start_any_method(context)
        # Bound and never listening: nobody else can get the port, and nobody answers there.
        self.nobody = socket.socket()
        self.nobody.bind(("127.0.0.1", 0))
        self.origins["dead"] = self.nobody.getsockname()[1]
        self.start_mtlsd(binary)

    def spawn(self, name, command):
        """Starts an origin; returns the ports that it says, as JSON, in its first line."""
        log = self.directory / f"{name}.log"
        with log.open("wb") as errors:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                       stderr=errors)
        self.running.append(process)
        readable, _, _ = select.select([process.stdout], [], [], PATIENCE)
        line = process.stdout.readline() if readable else b""
        if not line:
            raise Wrong(f"{name} does not start: {log.read_text()}")
        return json.loads(line)

    def configuration(self):
        text = f"""
listen = "localhost:0"

[log]
format = "json"

[defaults]
ca = "{self.servers}"
"""
        for name, (origin, more) in BINDINGS.items():
            text += f"""
[bindings.{name}]
listen      = ["localhost:0", "unix:{name}.sock"]
origin      = "https://{name}.test"
allow       = ["{name}.test:8443"]
connect_to  = "127.0.0.1:{self.origins[origin]}"
certificate = "{self.client[0]}"
key         = "{self.client[1]}"
{more}
"""
        return text

    def start_mtlsd(self, binary):
        path = self.directory / "mtlsd.toml"
        path.write_text(self.configuration())
        with self.log.open("wb") as diagnostics:
            process = subprocess.Popen([binary, "run", "--config", path], stderr=diagnostics,
                                       stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        self.running.append(process)
        until(lambda: process.poll() is not None or '"ready"' in self.log.read_text(), "mtlsd")
        if process.poll() is not None:
            raise Wrong(f"mtlsd does not run: {self.log.read_text()}")
        self.read_ports()

    def read_ports(self):
        """The system has chosen the ports; the log says which."""
        self.ports = {}
        for line in map(json.loads, self.log.read_text().splitlines()):
            if line["message"] == "serving":
                self.ports[line["binding"]] = port_of(line["listen"].split()[0])
            elif line["message"] == "listening for every binding":
                self.shared_port = port_of(line["listener"])

    def address(self, binding):
        return f"localhost:{self.ports[binding]}"

    def url(self, binding, path=""):
        return f"http://{self.address(binding)}{path}"

    def shared(self, path=""):
        return f"http://localhost:{self.shared_port}{path}"

    def socket(self, binding):
        return str(self.directory / f"{binding}.sock")

    def complaints(self):
        """What mtlsd logged beyond its good news."""
        return [line for line in self.log.read_text().splitlines() if '"INFO"' not in line]

    def end(self):
        """Ends what was started, the origins last, by their process ids."""
        for process in reversed(self.running):
            if process.poll() is None:
                process.terminate()
            try:
                process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(timeout=5)


def port_of(address):
    return int(address.rpartition(":")[2])


def start_any_method(context):
    server = ThreadingHTTPServer(("127.0.0.1", 0), AnyMethod)
    # Whoever comes without a certificate is seen by the client; here it would only be noise.
    server.handle_error = lambda *_: None
    # The handshake is left to the thread of the connection, so that none can hold up the others.
    server.socket = context.wrap_socket(server.socket, server_side=True,
                                        do_handshake_on_connect=False)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_address[1]


def arrived(seen, binding, **more):
    """Holds what an origin saw of a request against what it should have seen."""
    wanted = {"host": f"{binding}.test", "client": "client", "version": SPEAKS.get(binding)} | more
    for name, value in wanted.items():
        if value is not None:
            expect(seen.get(name), value, f"the origin's {name}")
