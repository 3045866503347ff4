"""The certificates, the origins, and mtlsd between them and whoever comes."""

import json
import os
import select
import signal
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

# What the origins speak whose bindings are named so.
SPEAKS = {"one": "1.1", "two": "2.0"}


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
        self.ports = {}
        self.shared = None
        self.big = directory / "big"
        self.big.write_bytes(os.urandom(24 << 20))
        servers, clients = Authority(directory, "servers"), Authority(directory, "clients")
        hosts = [f"{name}.test" for name in ("one", "two", "both", "brew", "chat", "calls", "mortal")]
        self.server = servers.issue("origin", hosts, "serverAuth")
        self.client = clients.issue("client", ["client.test"], "clientAuth")
        self.servers, self.clients = servers.certificate, clients.certificate

    def start(self, binary):
        tls = [*self.server, self.clients]
        self.origin_ports = self.spawn("origin", ["node", HERE / "origin.js", *tls, self.big])
        for name in ("calls", "mortal"):
            program = [sys.executable, HERE / "grpc_origin.py", *tls]
            self.origin_ports[name] = self.spawn(name, program)["port"]
        self.mortal = self.running[-1]
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=self.clients)
        context.load_cert_chain(*self.server)
        context.verify_mode = ssl.CERT_REQUIRED
        self.feed = Feed(context)
        self.origin_ports["chat"] = self.feed.port
        self.origin_ports["brew"] = self.start_any_method(context)
        # Bound and never listening: nobody else can get the port, and nobody answers there.
        self.nobody = socket.create_server(("127.0.0.1", 0)) if False else socket.socket()
        self.nobody.bind(("127.0.0.1", 0))
        self.origin_ports["dead"] = self.nobody.getsockname()[1]
        self.start_mtlsd(binary)

    def start_any_method(self, context):
        server = ThreadingHTTPServer(("127.0.0.1", 0), AnyMethod)
        # The handshake belongs to the thread of the connection, not to the one that accepts.
        server.socket = context.wrap_socket(server.socket, server_side=True,
                                            do_handshake_on_connect=False)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return server.server_address[1]

    def spawn(self, name, command):
        """Starts an origin; returns what it says in its first line, which is JSON."""
        errors = (self.directory / f"{name}.log").open("wb")
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                   stderr=errors)
        self.running.append(process)
        readable, _, _ = select.select([process.stdout], [], [], PATIENCE)
        line = process.stdout.readline() if readable else b""
        if not line:
            raise Wrong(f"{name} does not start: {(self.directory / f'{name}.log').read_text()}")
        return json.loads(line)

    def configuration(self):
        lines = [
            'listen = "localhost:0"',
            "[log]", 'format = "json"',
            "[defaults]", f'ca = "{self.servers}"',
            f'certificate = "{self.client[0]}"', f'key = "{self.client[1]}"',
        ]
        # Certificates belong to bindings, so there is no default for them.
        lines = lines[:-2]
        for name, origin, more in self.bindings():
            lines += [
                f"[bindings.{name}]",
                f'listen = ["localhost:0", "unix:{name}.sock"]',
                f'origin = "https://{origin}.test"',
                f'connect_to = "127.0.0.1:{self.origin_ports[origin]}"',
                f'certificate = "{self.client[0]}"', f'key = "{self.client[1]}"', more,
            ]
        return "\n".join(lines) + "\n"

    def bindings(self):
        """Name, name of the origin, and further lines."""
        for name in self.origin_ports:
            yield name, name, ""

    def start_mtlsd(self, binary):
        path = self.directory / "mtlsd.toml"
        path.write_text(self.configuration())
        log = self.log = self.directory / "mtlsd.log"
        with log.open("wb") as diagnostics:
            process = subprocess.Popen([binary, "run", "--config", path], stderr=diagnostics,
                                       stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        self.running.append(process)
        until(lambda: process.poll() is not None or '"ready"' in log.read_text(), "mtlsd")
        if process.poll() is not None:
            raise Wrong(f"mtlsd does not run: {log.read_text()}")
