"""The origin behind every proxy: an nginx that demands a client certificate."""

import os

from certificates import HOST
from machine import LOAD_CORE, Tree, free_port

KIB, MIB = 1 << 10, 1 << 20

# What each path answers with, in bytes.
SIZES = {"/1k": KIB, "/1m": MIB, "/100m": 100 * MIB, "/up": 7}


class Origin:
    """Its ports: `http1`, `http2`, and two that close every connection after one answer, of which
    `resuming` resumes TLS sessions and `forgetful` does not."""

    def __init__(self, directory, certificates):
        self.http1, self.http2 = free_port(), free_port()
        self.resuming, self.forgetful = free_port(), free_port()
        # Not beside the certificates: whoever watches their directory would be told of every line.
        self.handshakes = directory / "log" / "handshakes"
        self.handshakes.parent.mkdir()
        files = directory / "files"
        files.mkdir()
        for name in ("1m", "100m"):
            (files / name).write_bytes(bytes(SIZES[f"/{name}"]))
        configuration = directory / "origin.conf"
        configuration.write_text(self.configuration(directory, certificates))
        self.tree = Tree(["nginx", "-e", directory / "origin.err", "-p", directory,
                          "-c", configuration], LOAD_CORE, directory / "origin.out")
        for port in (self.http1, self.http2, self.resuming, self.forgetful):
            self.tree.await_port(port)

    def configuration(self, directory, certificates):
        body = "x" * SIZES["/1k"]
        # /up answers when the whole body has been read, which nginx does before it asks the inner
        # server; a body that is not whole is answered with 400.
        answers = f"""
        root {directory}/files;
        default_type application/octet-stream;
        location = /1k {{ return 200 "{body}"; }}
        location = /up {{
            client_body_buffer_size 2m;
            proxy_pass http://unix:{directory}/inner.sock:/;
            proxy_pass_request_body off;
            proxy_set_header Content-Length "";
        }}"""
        return f"""
daemon off;
{user()}
worker_processes 1;
worker_rlimit_nofile 20000;
pid {directory}/origin.pid;
error_log {directory}/origin.err warn;
events {{ worker_connections 18000; }}
http {{
    log_format handshake $ssl_session_reused;
    access_log off;
    sendfile on;
    tcp_nopush on;
    client_max_body_size 0;
    {temporary(directory, "origin")}
    ssl_certificate {certificates.server};
    ssl_certificate_key {certificates.server_key};
    ssl_client_certificate {certificates.authority};
    ssl_verify_client on;
    ssl_protocols TLSv1.3;
    keepalive_requests 1000000000;
    keepalive_timeout 1h;
    keepalive_time 10h;
    http2_max_concurrent_streams 256;
    server {{
        listen 127.0.0.1:{self.http1} ssl backlog=4096;
        server_name {HOST};
        {answers}
    }}
    server {{
        listen 127.0.0.1:{self.http2} ssl http2 backlog=4096;
        server_name {HOST};
        {answers}
    }}
    server {{
        listen 127.0.0.1:{self.resuming} ssl backlog=4096;
        server_name {HOST};
        access_log {self.handshakes} handshake;
        keepalive_timeout 0;
        ssl_session_tickets on;
        {answers}
    }}
    server {{
        listen 127.0.0.1:{self.forgetful} ssl backlog=4096;
        server_name {HOST};
        access_log {self.handshakes} handshake;
        keepalive_timeout 0;
        ssl_session_tickets off;
        ssl_session_cache off;
        {answers}
    }}
    server {{
        listen unix:{directory}/inner.sock;
        return 200 "stored\\n";
    }}
}}
"""

    def handshakes_so_far(self):
        """How many connections the two closing ports served, and how many resumed a session."""
        marks = self.handshakes.read_bytes().split()
        return len(marks), marks.count(b"r")


def user():
    """Master and workers are one user, whoever that is: the directory is nobody else's."""
    return "user root;" if os.geteuid() == 0 else ""


def temporary(directory, owner):
    """The directories that nginx makes at its start, whether or not it is going to use them."""
    return "\n    ".join(
        f"{kind}_temp_path {directory}/{owner}-{kind};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
