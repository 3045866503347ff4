"""Load, and whether every answer to it was right."""

import http.client
import json
import re
import select
import socket
import subprocess
from dataclasses import dataclass

from machine import PATIENCE
from origin import SIZES


class Wrong(Exception):
    """An answer that was not what the origin sends. Whatever was measured with it is void."""


@dataclass(frozen=True)
class Closed:
    """Requests over connections that are kept, each sent when the one before it was answered."""

    path: str
    connections: int
    streams: int = 1
    http2: bool = False
    upload: object = None  # the file to send to /up
    host: str = ""  # what goes into Host in place of the address

    def run(self, port, requests):
        """Makes that many requests, and returns how many a second there were."""
        command = ["h2load", "-t1", f"-c{self.connections}", f"-m{self.streams}", f"-n{requests}"]
        command += [] if self.http2 else ["--h1"]
        command += ["-d", str(self.upload)] if self.path == "/up" else []
        command += [f"--connect-to=127.0.0.1:{port}"] if self.host else []
        command += [f"http://{self.host or '127.0.0.1'}:{port}{self.path}"]
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL,
                              timeout=120, check=False)
        self.judge(done.stdout, requests)
        return float(find(r"([\d.]+) req/s", done.stdout))

    def judge(self, said, requests):
        """h2load counts answers, statuses and bytes of bodies: all have to be there, and no more.

        It takes no note of the status in a line without a reason phrase, which is what HAProxy
        writes where the origin spoke HTTP/2. Such an answer is judged by its length: an error of a
        proxy's own has another one.
        """
        counts = {what: int(find(rf"(\d+) {what}", said)) for what in (
            "done", "errored", "timeout", "2xx", "3xx", "4xx", "5xx")}
        counts["bytes"] = int(find(r"headers[^,]*, \S+ \((\d+)\) data", said))
        expected = dict.fromkeys(counts, 0) | {
            "done": requests, "2xx": requests, "bytes": requests * SIZES[self.path]}
        unseen = expected | {"2xx": 0}
        if counts not in (expected, unseen):
            raise Wrong(f"of {requests} answers: {counts}")


def find(pattern, text):
    found = re.search(pattern, text)
    if not found:
        raise Wrong(f"h2load does not say {pattern}: {text[-300:]}")
    return found.group(1)


def get(port, path="/1k", host=""):
    """One request over a connection of its own; its answer has to be right."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request("GET", path, headers={"Host": host} if host else {})
        answer = connection.getresponse()
        judge(answer.status, answer.read(), path)
    except (http.client.HTTPException, OSError) as error:
        raise Wrong(f"no answer: {error!r}") from error
    finally:
        connection.close()


def judge(status, body, path):
    if (status, len(body)) != (200, SIZES[path]):
        raise Wrong(f"status {status} with {len(body)} bytes in place of 200 with {SIZES[path]}: "
                    + body[:200].decode(errors="replace").strip())


class Idle:
    """Client connections that made one request each, and then say nothing."""

    def __init__(self, port):
        self.port = port
        self.sockets = []

    def grow_to(self, count):
        while len(self.sockets) < count:
            client = socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)
            client.sendall(b"GET /1k HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            answer = http.client.HTTPResponse(client)
            answer.begin()
            judge(answer.status, answer.read(), "/1k")
            self.sockets.append(client)

    def check_open(self):
        """A connection that was closed takes no memory, and would make the proxy look good."""
        poll = select.poll()
        for client in self.sockets:
            poll.register(client, select.POLLIN)
        ended = len(poll.poll(0))
        if ended:
            raise Wrong(f"{ended} of {len(self.sockets)} idle connections were closed")

    def close(self):
        for client in self.sockets:
            client.close()


def open_loop(program, port, rate, seconds):
    """Requests at a fixed rate, whatever becomes of them; see open_loop.rs."""
    done = subprocess.run(
        [program, str(port), "/1k", str(SIZES["/1k"]), str(rate), "32", str(seconds)],
        capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=seconds + 60, check=False)
    if done.returncode:
        raise Wrong(f"the open loop ended with {done.returncode}: {done.stderr.strip()}")
    return json.loads(done.stdout)
