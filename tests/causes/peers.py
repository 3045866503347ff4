"""Origins, each with something wrong: openssl s_server, nginx, and sockets that misbehave."""

import itertools
import os
import random
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time

PATIENCE = 15


def until(check, seconds=PATIENCE, step=0.02):
    """The first true value of `check`, or its last value when the time is over."""
    deadline = time.monotonic() + seconds
    while True:
        value = check()
        if value or time.monotonic() > deadline:
            return value
        time.sleep(step)


# Below the ports that the system gives to connections, and each handed out once: what listens there
# starts later, and meanwhile others look for ports too.
PORTS = itertools.cycle(range(12000, 30000))
for _ in range(random.randrange(18000)):
    next(PORTS)
CHOOSING = threading.Lock()


def free_port():
    with CHOOSING:
        while True:
            port = next(PORTS)
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) != 0:
                    return port


def accepts(port):
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Running:
    """The processes that were started, which end with the test."""

    def __init__(self):
        self.all = []

    def start(self, command, **options):
        options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL,
                   "stderr": subprocess.DEVNULL} | options
        process = subprocess.Popen([str(part) for part in command], **options)
        self.all.append(process)
        return process

    def end(self):
        for process in self.all:
            if process.poll() is None:
                process.terminate()
        for process in self.all:
            try:
                process.wait(timeout=PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(timeout=PATIENCE)


def s_server(running, served, *arguments, page=True):
    """openssl's own server; it answers with a page of its own."""
    port = free_port()
    # It stops when its standard input does.
    running.start(["openssl", "s_server", "-accept", f"127.0.0.1:{port}", "-cert",
                   served.certificate, "-cert_chain", served.certificate, "-key", served.key,
                   *(["-www"] if page else []), *arguments], stdin=subprocess.PIPE)
    if not until(lambda: accepts(port)):
        sys.exit(f"openssl s_server {' '.join(map(str, arguments))} does not run")
    return port


def renegotiating(running, served, authorities):
    """openssl's server, which asks for a certificate when it has read the request, as IIS does."""
    port = free_port()
    process = running.start(
        ["openssl", "s_server", "-accept", f"127.0.0.1:{port}", "-cert", served.certificate,
         "-key", served.key, "-tls1_2", "-CAfile", authorities],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)

    def ask():
        for line in process.stdout:
            if line.startswith(b"GET "):
                process.stdin.write(b"R\n")

    threading.Thread(target=ask, daemon=True).start()
    if not until(lambda: accepts(port)):
        sys.exit("openssl s_server does not run")
    return port


def listening():
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", 0))
    return listener


def serve(handle):
    """Does with every connection what `handle` does; returns the port."""
    listener = listening()
    listener.listen(16)

    def one(connection):
        try:
            with connection:
                handle(connection)
        except OSError:
            pass  # the other side's view is what counts

    def accept():
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=one, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return listener.getsockname()[1]


def deaf():
    """A port whose queue is full: to the next client nothing is said at all."""
    listener = listening()
    listener.listen(0)
    address = listener.getsockname()
    waiting = []
    for _ in range(4):
        one = socket.socket()
        one.setblocking(False)
        one.connect_ex(address)
        waiting.append(one)
    time.sleep(0.2)
    deaf.kept = (listener, waiting)  # for as long as the process lives
    return address[1]


def reset(connection):
    """Closes in a way that the other side notices as an error."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def says(words):
    """Says something that is no TLS, and waits for the end."""
    def handle(connection):
        connection.recv(1)
        connection.sendall(words)
        connection.settimeout(2)
        while connection.recv(4096):
            pass
    return serve(handle)


def silent():
    return serve(lambda connection: time.sleep(PATIENCE))


def closing():
    return serve(lambda connection: connection.recv(1))


def resetting():
    def handle(connection):
        connection.recv(1)
        reset(connection)
    return serve(handle)


def tls(served, authorities, handle, asks=True, alpn=(), version=None):
    """A server in Python: after the handshake, `handle` has the connection and its request."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(served.certificate, served.key)
    if asks:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(authorities)
    if alpn:
        context.set_alpn_protocols(list(alpn))
    if version:
        context.maximum_version = version

    def shaken(connection):
        secured = context.wrap_socket(connection, server_side=True)
        handle(secured)
    return serve(shaken)


def head_of(secured):
    """Reads a request's head."""
    head = b""
    while b"\r\n\r\n" not in head:
        piece = secured.recv(65536)
        if not piece:
            break
        head += piece
    return head


def close_unanswered(secured):
    head_of(secured)
    secured.unwrap()


def reset_unanswered(secured):
    head_of(secured)
    reset(secured)


def never_answer(secured):
    head_of(secured)
    time.sleep(PATIENCE)


def answer(text):
    def handle(secured):
        while head_of(secured):
            secured.sendall(text)
    return handle


def answer_and(text, then):
    def handle(secured):
        head_of(secured)
        secured.sendall(text)
        then(secured)
    return handle


def once_then_close():
    """Answers on the first connection, and on no other."""
    seen = []

    def handle(secured):
        head_of(secured)
        if not seen:
            seen.append(1)
            secured.sendall(page(200, "good", "Connection: close\r\n"))
        secured.unwrap()
    return handle


def page(status, text, fields=""):
    return (f"HTTP/1.1 {status} Status\r\nContent-Type: text/html\r\n{fields}"
            f"Content-Length: {len(text)}\r\n\r\n{text}").encode()


def alerting(port, alert):
    """Stands before a server of TLS 1.2, and answers the client's certificate with an alert."""
    def handle(client):
        with socket.create_connection(("127.0.0.1", port)) as server:
            client.settimeout(PATIENCE)
            server.sendall(client.recv(65536))  # ClientHello
            server.settimeout(0.3)
            try:
                while True:
                    piece = server.recv(65536)
                    if not piece:
                        break
                    client.sendall(piece)
            except TimeoutError:
                pass  # the server has said what it has to say, up to ServerHelloDone
            client.recv(65536)  # Certificate and what follows
            client.sendall(bytes([21, 3, 3, 0, 2, 2, alert]))
            client.settimeout(1)
            while client.recv(65536):
                pass
    return serve(handle)


class Nginx:
    """nginx with several servers, each on a port of its own."""

    def __init__(self, running, directory, servers):
        directory.mkdir()
        self.ports = {name: free_port() for name in servers}
        blocks = "".join(f"server {{ listen 127.0.0.1:{self.ports[name]} {block} }}\n"
                         for name, block in servers.items())
        user = "user root;" if os.geteuid() == 0 else ""
        temporary = "".join(f"{kind}_temp_path {directory}/{kind};\n"
                            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        (directory / "nginx.conf").write_text(f"""
daemon off;
{user}
worker_processes 1;
pid {directory}/pid;
error_log {directory}/error.log info;
events {{ worker_connections 128; }}
http {{ access_log off; {temporary} {blocks} }}
""")
        process = running.start(["nginx", "-e", directory / "error.log", "-p", directory, "-c",
                                 directory / "nginx.conf"])
        ready = until(lambda: process.poll() is not None
                      or all(accepts(port) for port in self.ports.values()))
        if not ready or process.poll() is not None:
            sys.exit(f"nginx does not run:\n{(directory / 'error.log').read_text()}")


def resolver(address):
    """A DNS server that knows no name, and says nothing at all about `slow.test`."""
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind((address, 53))

    def answer_all():
        while True:
            query, client = server.recvfrom(512)
            if b"\x04slow\x04test" not in query:
                # NXDOMAIN (RFC 1035 section 4.1.1), with the question repeated.
                server.sendto(query[:2] + b"\x81\x83\x00\x01" + bytes(6) + question(query), client)

    threading.Thread(target=answer_all, daemon=True).start()


def question(query):
    end = query.index(b"\0", 12) + 5
    return query[12:end]
