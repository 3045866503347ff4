"""An origin that speaks as much of dockerd's API as docker's command line asks for, as dockerd does."""

import base64
import io
import json
import ssl
import struct
import sys
import tarfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

CONTAINER = "c0ffee" * 10 + "c0ff"
EXEC = "e4ec" * 16
IMAGE = {"Id": "sha256:" + "ab" * 32, "RepoTags": ["image:latest"], "Config": {}, "Size": 1, "RootFS": {"Type": "layers"}}


def frame(stream, text):
    """A piece of output as it is multiplexed without a terminal."""
    return struct.pack(">BxxxL", stream, len(text)) + text


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "Docker/28.2.2 (linux)"

    def setup(self):
        self.request.do_handshake()
        super().setup()

    def log_message(self, *_):
        pass

    def body(self):
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            read = b""
            while size := int(self.rfile.readline().split(b";")[0], 16):
                read += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return read
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def reply(self, value, status=200, headers=()):
        text = b"" if value is None else json.dumps(value).encode()
        self.send_response(status)
        for name, field in [("Api-Version", "1.43"), ("Content-Type", "application/json"), ("Ostype", "linux"), *headers]:
            self.send_header(name, field)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text)

    def chunks(self, kind="application/json"):
        """Begins an answer of unknown length; returns what writes a piece of it."""
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

        def write(piece):
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            self.wfile.flush()

        return write

    def hijack(self, body):
        """Takes over the connection, as dockerd does: 101 where the client asks for it."""
        self.close_connection = True
        asked = self.headers.get("Upgrade", "")
        if self.headers.get("Connection", "").lower() != "upgrade" or not asked:
            raise ValueError(f"no upgrade: {self.headers}")
        self.wfile.write(
            b"HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\n"
            b"Connection: Upgrade\r\nUpgrade: %s\r\n\r\n" % asked.encode()
        )
        self.wfile.flush()
        self.server.note(f"{asked} {body.decode()}".strip())

    def echo(self, greeting, terminal):
        """Says `greeting`, and then everything that comes, in capitals, until the client's end."""
        dress = (lambda text: text) if terminal else (lambda text: frame(1, text))
        self.wfile.write(dress(greeting))
        if not terminal:
            self.wfile.write(frame(2, b"warning\n"))
        self.wfile.flush()
        while piece := self.rfile.read1(65536):
            self.wfile.write(dress(piece.upper()))
            self.wfile.flush()

    def handle_any(self):
        path, _, query = self.path.partition("?")
        parts = path.strip("/").split("/")
        if parts[0].startswith("v1."):
            parts = parts[1:]
        call = f"{self.command} {'/'.join(parts)}"
        call = call.replace(CONTAINER, "ID").replace(EXEC, "EXEC").replace("containers/it/", "containers/ID/")
        subject = dict(part for group in self.connection.getpeercert()["subject"] for part in group)
        self.server.note(f"{subject.get('commonName')}: {call}")
        body = b"" if call.endswith("/attach") else self.body()
        known = self.server.known
        match call:
            case "GET _ping" | "HEAD _ping":
                self.reply(None, headers=[("Builder-Version", "1"), ("Docker-Experimental", "false")])
            case "GET version":
                self.reply({"Version": "28.2.2", "ApiVersion": "1.43", "MinAPIVersion": "1.24", "Os": "linux", "Arch": "amd64"})
            case "GET info":
                self.reply({"ID": "fake", "OSType": "linux", "Architecture": "x86_64", "ServerVersion": "28.2.2"})
            case "POST containers/create":
                known["tty"] = json.loads(body).get("Tty", False)
                self.reply({"Id": CONTAINER, "Warnings": []}, 201)
            case "POST containers/ID/attach":
                self.body()
                self.hijack(b"")
                known["started"].wait(10)
                self.echo(b"hello from the container\n", known["tty"])
                known["ended"].set()
            case "POST containers/ID/wait":
                write = self.chunks()
                known["ended"].wait(10)
                write(json.dumps({"StatusCode": 3}).encode())
                self.wfile.write(b"0\r\n\r\n")
            case "POST containers/ID/start":
                known["started"].set()
                self.reply(None, 204)
            case "GET containers/ID/json":
                state = {"Status": "running", "Running": True, "Paused": False, "ExitCode": 3}
                self.reply({"Id": CONTAINER, "Name": "/it", "State": state, "Config": {"Tty": known["tty"], "OpenStdin": True}, "HostConfig": {}})
            case "POST containers/ID/exec":
                known["tty"] = json.loads(body)["Tty"]
                self.reply({"Id": EXEC}, 201)
            case "POST exec/EXEC/start":
                self.hijack(body)
                self.echo(b"executed\n", known["tty"])
            case "GET exec/EXEC/json":
                self.reply({"ID": EXEC, "Running": False, "ExitCode": 5, "ProcessConfig": {}})
            case "GET containers/ID/logs":
                write = self.chunks("application/vnd.docker.raw-stream")
                for number in range(3):
                    write(frame(1, b"line %d\n" % number))
                    time.sleep(0.3)
                self.wfile.write(b"0\r\n\r\n")
            case "HEAD containers/ID/archive":
                place = DIRECTORY if query in ("path=%2F", "path=/") else FILE
                self.reply(None, headers=[("X-Docker-Container-Path-Stat", place)])
            case "GET containers/ID/archive":
                self.send_response(200)
                self.send_header("Content-Type", "application/x-tar")
                self.send_header("X-Docker-Container-Path-Stat", FILE)
                data = archive("file", b"from the container")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)
            case "PUT containers/ID/archive":
                known["put"] = body
                self.reply(None)
            case "POST build":
                known["built"] = body
                write = self.chunks()
                for line in ({"stream": "Step 1/1 : FROM scratch\n"}, {"aux": {"ID": IMAGE["Id"]}}, {"stream": "Successfully built abababab\n"}):
                    write(json.dumps(line).encode() + b"\r\n")
                self.wfile.write(b"0\r\n\r\n")
            case "POST session" | "POST grpc":
                self.hijack(body)
                self.echo(b"", True)
            case "DELETE containers/ID":
                self.reply(None, 204)
            case _:
                self.reply({"message": f"not here: {call}"}, 404)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = handle_any


def archive(name, content):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        entry = tarfile.TarInfo(name)
        entry.size = len(content)
        tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def stat(name, size, mode):
    """What is known of a file, as the archive calls give it. Modes are those of Go."""
    value = {"name": name, "size": size, "mode": mode, "mtime": "2026-01-01T00:00:00Z", "linkTarget": ""}
    return base64.b64encode(json.dumps(value).encode()).decode()


FILE = stat("file", 18, 0o644)
DIRECTORY = stat("/", 4096, 1 << 31 | 0o755)


class Dockerd(ThreadingHTTPServer):
    """Demands a certificate of the CA; `calls` has what came."""

    daemon_threads = True

    def __init__(self, directory):
        super().__init__(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(directory / "origin.pem", directory / "origin.key")
        context.load_verify_locations(directory / "ca.pem")
        context.verify_mode = ssl.CERT_REQUIRED
        self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        self.calls = []
        self.forget()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def note(self, call):
        self.calls.append(call)

    def forget(self):
        self.calls.clear()
        self.known = {"tty": False, "started": threading.Event(), "ended": threading.Event()}

    def handle_error(self, request, client_address):
        error = sys.exc_info()[1]
        # Connections end as clients like.
        if not isinstance(error, (ssl.SSLError, ConnectionError, TimeoutError)):
            super().handle_error(request, client_address)
