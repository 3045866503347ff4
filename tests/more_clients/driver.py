"""An origin behind TLS that demands a client certificate, mtlsd in front of it, and each client."""

import hashlib
import hmac
import os
import re
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote, unquote

HERE = Path(__file__).parent
HOST = "origin.example"
SECRET = "a secret access key"


def run(*command, **options):
    """What a command prints; ends the run if it fails."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True,
                          stdin=subprocess.DEVNULL, timeout=240, check=False, **options)
    if done.returncode != 0:
        raise SystemExit(f"{command} failed:\n{done.stdout}\n{done.stderr}")
    return done.stdout


def expect(condition, what):
    if not condition:
        raise SystemExit(what)


def certificate(directory, name, *arguments):
    paths = directory / f"{name}.crt", directory / f"{name}.key"
    run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
        "-days", "2", "-subj", f"/CN={name}", "-out", paths[0], "-keyout", paths[1], *arguments)
    return paths


class Handler(BaseHTTPRequestHandler):
    """Does what the path says."""

    protocol_version = "HTTP/1.1"
    root = None
    posts = 0
    moved = []
    signed = []

    def log_message(self, *_):
        pass

    def body(self):
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            pieces = []
            while size := int(self.rfile.readline(), 16):
                pieces.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(pieces)
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def reply(self, status, body=b"", **fields):
        self.send_response(status)
        for name, value in fields.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def handle_any(self):
        path = self.path.split("?")[0]
        if path == "/chunked":
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.write(b"5\r\nhello\r\n0\r\n\r\n")
        elif path.startswith("/repo.git"):
            self.git(path)
        elif path.startswith("/apt/"):
            file = Handler.root / "apt" / path.removeprefix("/apt/")
            self.body()
            self.reply(200, file.read_bytes()) if file.is_file() else self.reply(404)
        elif path == "/create":
            # The head of a response, and the end of the connection.
            self.body()
            Handler.posts += 1
            self.wfile.write(b"HTTP/1.1 201 Created\r\nLocation: /made\r\nContent-Length: 9\r\n\r\n")
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
        elif path.startswith("/bucket/"):
            self.signature(self.body())
        elif self.command == "MOVE":
            self.body()
            Handler.moved.append(self.headers["Destination"])
            self.reply(201, Location=f"https://{HOST}/dav/new")
        else:
            self.body()
            self.reply(201)

    do_GET = do_HEAD = do_POST = do_PUT = do_MOVE = do_MKCOL = handle_any

    def git(self, path):
        query = self.path.partition("?")[2]
        environment = {
            **os.environ, "GIT_PROJECT_ROOT": str(Handler.root), "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": path, "QUERY_STRING": query, "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""), "REMOTE_USER": "test",
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
        }
        done = subprocess.run(["git", "http-backend"], input=self.body(), env=environment,
                              capture_output=True, timeout=120, check=False)
        head, _, body = done.stdout.partition(b"\r\n\r\n")
        fields = dict(line.split(": ", 1) for line in head.decode().splitlines())
        status = int(fields.pop("Status", "200").split()[0])
        fields.pop("Content-Length", None)
        self.reply(status, body, **{name.replace("-", "_"): value for name, value in fields.items()})

    def signature(self, body):
        """Checks AWS Signature Version 4, which covers the host that the client has named."""
        found = re.fullmatch(
            r"AWS4-HMAC-SHA256 Credential=\w+/(\d+)/([\w-]+)/s3/aws4_request, "
            r"SignedHeaders=([\w;-]+), Signature=(\w+)", self.headers["Authorization"])
        day, region, names, signature = found.groups()
        path, _, query = self.path.partition("?")
        fields = "".join(f"{name}:{self.headers[name].strip()}\n" for name in names.split(";"))
        digest = self.headers["X-Amz-Content-SHA256"]
        request = "\n".join([self.command, quote(unquote(path)), query, fields, names, digest])
        text = "\n".join(["AWS4-HMAC-SHA256", self.headers["X-Amz-Date"],
                          f"{day}/{region}/s3/aws4_request",
                          hashlib.sha256(request.encode()).hexdigest()])
        key = f"AWS4{SECRET}".encode()
        for part in (day, region, "s3", "aws4_request", text):
            key = hmac.new(key, part.encode(), hashlib.sha256).digest()
        Handler.signed.append(key.hex() == signature)
        self.reply(200 if Handler.signed[-1] else 403, ETag='"x"')


def origin(directory, authority, served):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*served)
    context.load_verify_locations(authority)
    context.verify_mode = ssl.CERT_REQUIRED
    Handler.root = directory
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_address[1]


def mtlsd(binary, directory, port):
    (directory / "mtlsd.toml").write_text(f"""
[bindings.origin]
listen = "127.0.0.1:0"
origin = "https://{HOST}"
connect_to = "127.0.0.1:{port}"
certificate = "client.crt"
key = "client.key"
ca = "authority.crt"
""")
    process = subprocess.Popen([binary, "run"], cwd=directory, stderr=subprocess.PIPE, text=True,
                               stdout=subprocess.DEVNULL)
    address = None
    for line in process.stderr:
        if found := re.search(r"127\.0\.0\.1:\d+", line):
            address = address or found.group()
        if "ready" in line:
            break
    threading.Thread(target=process.stderr.read, daemon=True).start()
    expect(address, "mtlsd does not start")
    return process, address


def with_ab(address, _):
    for arguments in ([], ["-k"]):
        out = run("ab", "-q", *arguments, "-n", "200", "-c", "4", f"http://{address}/chunked")
        complete = re.search(r"Complete requests:\s+(\d+)", out).group(1)
        failed = re.search(r"Failed requests:\s+(\d+)", out).group(1)
        expect((complete, failed) == ("200", "0"), f"ab {arguments}:\n{out}")


def with_git(address, directory):
    run("git", "init", "-q", "--bare", directory / "repo.git")
    run("git", "-C", directory / "repo.git", "config", "http.receivepack", "true")
    work = directory / "work"
    run("git", "init", "-q", work)
    (work / "large").write_bytes(os.urandom(30 << 20))
    run("git", "-C", work, "add", ".")
    run("git", "-C", work, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "Add a file")
    run("git", "-C", work, "push", "-q", f"http://{address}/repo.git", "HEAD:refs/heads/main")
    copy = directory / "copy"
    run("git", "clone", "-q", "-b", "main", f"http://{address}/repo.git", copy)
    same = (copy / "large").read_bytes() == (work / "large").read_bytes()
    expect(same, "the clone is not what was pushed")


def with_apt(address, directory):
    package, repository = directory / "package" / "DEBIAN", directory / "apt"
    package.mkdir(parents=True)
    repository.mkdir()
    control = "Package: hello-mtls\nVersion: 1\nArchitecture: all\nMaintainer: a <a@b>\nDescription: a\n"
    (package / "control").write_text(control)
    deb = repository / "hello-mtls.deb"
    run("dpkg-deb", "--build", package.parent, deb)
    entry = f"Filename: ./hello-mtls.deb\nSize: {deb.stat().st_size}\n"
    digest = hashlib.sha256(deb.read_bytes()).hexdigest()
    (repository / "Packages").write_text(f"{control}{entry}SHA256: {digest}\n")
    state = directory / "state"
    for part in ("lists/partial", "cache/archives/partial"):
        (state / part).mkdir(parents=True)
    (state / "status").touch()
    (state / "sources.list").write_text(f"deb [trusted=yes] http://{HOST}/apt/ ./\n")
    options = [
        f"Dir::State::lists={state}/lists", f"Dir::State::status={state}/status",
        f"Dir::Cache={state}/cache", f"Dir::Etc::sourcelist={state}/sources.list",
        "Dir::Etc::sourceparts=-", "APT::Sandbox::User=root", "Acquire::Languages=none",
    ]
    command = ["apt-get", "-q", *(part for option in options for part in ("-o", option))]
    environment = {**os.environ, "http_proxy": f"http://{address}"}
    run(*command, "update", env=environment, cwd=state)
    run(*command, "download", "hello-mtls", env=environment, cwd=state)
    expect(list(state.glob("hello-mtls*.deb")), "apt downloaded nothing")


def with_boto3(address, _):
    import boto3
    from botocore.config import Config
    client = boto3.client(
        "s3", endpoint_url=f"http://{HOST}", region_name="eu-1", aws_access_key_id="ID",
        aws_secret_access_key=SECRET,
        config=Config(proxies={"http": f"http://{address}"}, s3={"addressing_style": "path"}))
    client.put_object(Bucket="bucket", Key="a key", Body=b"x" * 100_000)
    expect(Handler.signed == [True], f"the signature is not valid: {Handler.signed}")


def with_webdav(address, _):
    url = f"http://{address}/dav"
    run("curl", "-sSf", "-X", "MKCOL", f"{url}/")
    run("curl", "-sSf", "-T", HERE / "driver.py", f"{url}/old")
    out = run("curl", "-sSfi", "-X", "MOVE", "-H", f"Destination: {url}/new", f"{url}/old")
    expect(Handler.moved == [f"https://{HOST}/dav/new"], f"Destination: {Handler.moved}")
    expect(re.search(r"(?im)^location: /dav/new\r?$", out), out)


def with_java(address, _):
    out = run("java", HERE / "Once.java", f"http://{address}/create")
    expect(out.strip() == "201 /made", f"Java saw {out!r}")
    expect(Handler.posts == 1, f"the origin acted {Handler.posts} times")


def main():
    binary = sys.argv[1]
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        authority, key = certificate(directory, "authority")
        issue = ["-CA", authority, "-CAkey", key, "-addext", "basicConstraints=critical,CA:FALSE"]
        certificate(directory, "client", *issue, "-addext", "extendedKeyUsage=clientAuth")
        served = certificate(directory, "origin", *issue, "-addext", f"subjectAltName=DNS:{HOST}")
        port = origin(directory, authority, served)
        process, address = mtlsd(binary, directory, port)
        try:
            for client in (with_ab, with_git, with_apt, with_boto3, with_webdav, with_java):
                began = time.monotonic()
                client(address, directory)
                print(f"ok   {client.__name__} ({time.monotonic() - began:.1f} s)", flush=True)
        finally:
            process.terminate()
            process.wait(30)


if __name__ == "__main__":
    main()
