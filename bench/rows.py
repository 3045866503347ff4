"""What is measured: one class for each kind of row, and the table of all rows.

A row is measured on a proxy that was started for it and is ended after it. It returns figures by
name; the first is the one that ratios are taken of, and for all of them less is better unless the
name says otherwise.
"""

import time
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from load import Closed, Idle, Wrong, get, open_loop
from machine import BOTH_CORES
from origin import MIB
from proxies import Task


@dataclass(frozen=True)
class Bench:
    """What all rows have in common."""

    origin: object
    upload: object  # a file of 1 MiB
    open_loop: object  # the program
    seconds: float


@dataclass(frozen=True)
class Row:
    about: str
    port: str = "http1"  # which of the origin's
    task: dict = field(default_factory=dict)
    # mtlsd in other circumstances, to compare it with: by label, what differs in the task.
    others: dict = field(default_factory=dict)
    peers: bool = True

    def contestants(self, bench, proxies):
        """The first is the one whose ratios to the others are of interest."""
        task = Task(origin=getattr(bench.origin, self.port), **self.task)
        mtlsd, *peers = proxies
        yield mtlsd.name, mtlsd, task
        for label, change in self.others.items():
            yield f"{mtlsd.name}, {label}", mtlsd, replace(task, **change)
        for peer in peers if self.peers else ():
            if peer.can(task):
                yield peer.name, peer, task


@dataclass(frozen=True)
class Cost(Row):
    """CPU time of the proxy's whole process tree under load."""

    load: Closed = None

    def measure(self, bench, proxy, task):
        load = replace(self.load, host=task.host, upload=bench.upload)
        few = load.connections * load.streams
        with running(proxy, task) as run:
            # The first, short run finds out how fast it is; the second warms it up.
            rate = run.ask(load, few)
            rate = run.ask(load, round_up(rate * WARM_UP, few))
            requests = round_up(rate * bench.seconds, few)
            before, handshakes = run.tree.cpu(), bench.origin.handshakes_so_far()
            rate = run.ask(load, requests)
            cpu = run.tree.cpu() - before
            return self.figures(cpu, requests, rate, handshakes, bench.origin)

    def figures(self, cpu, requests, rate, _handshakes, _origin):
        return {"CPU µs/request": cpu / requests * 1e6, "requests/s (more is better)": rate}


class Bytes(Cost):
    """The same for large bodies, where a byte is what costs."""

    def figures(self, cpu, requests, rate, _handshakes, _origin):
        size = SIZE_OF_BODY[self.load.path]
        return {"CPU s/GB": cpu / (requests * size) * 1e9,
                "GB/s (more is better)": rate * size / 1e9}


class Handshakes(Cost):
    """The same where the origin closes each connection: a request is a TLS handshake."""

    def figures(self, cpu, requests, rate, before, origin):
        made, resumed = (now - then for now, then in zip(origin.handshakes_so_far(), before))
        if made < requests:
            raise Wrong(f"the origin counted {made} connections for {requests} requests")
        return {"CPU µs/handshake": cpu / requests * 1e6, "% resumed": 100 * resumed / made,
                "handshakes/s (more is better)": rate}


@dataclass(frozen=True)
class OpenLoop(Row):
    """Latency, and CPU time, at a rate that leaves every proxy idle most of the time."""

    rate: int = 2000

    def measure(self, bench, proxy, task):
        with running(proxy, task) as run:
            open_loop(bench.open_loop, run.port, self.rate, WARM_UP)
            before = run.tree.cpu()
            # A 99th percentile needs more than a moment.
            took = open_loop(bench.open_loop, run.port, self.rate, 2 * bench.seconds)
            cpu = run.tree.cpu() - before
            run.asked += took["requests"]
            return {"CPU µs/request": cpu / took["requests"] * 1e6,
                    "p50 µs": took["p50"], "p99 µs": took["p99"]}


@dataclass(frozen=True)
class IdleConnections(Row):
    """Memory for client connections that made one request each and then say nothing."""

    counts: tuple = (1000, 9000)

    def measure(self, bench, proxy, task):
        with running(proxy, task) as run:
            time.sleep(SETTLE)
            rest = run.tree.memory()
            idle, figures = Idle(run.port), {}
            try:
                for count in self.counts:
                    idle.grow_to(count)
                    time.sleep(SETTLE)
                    figures[f"KiB each of {count:,}"] = (run.tree.memory() - rest) / count
                    idle.check_open()
            finally:
                idle.close()
            return figures


class Start(Row):
    """From exec to the first answer, with the handshake to the origin; and what is held then."""

    def measure(self, bench, proxy, task):
        with running(proxy, task) as run:
            time.sleep(SETTLE)
            return {"first byte ms": (run.answered - run.tree.began) * 1e3,
                    "MB at rest": run.tree.memory() * 1024 / 1e6}


class Run:
    """A proxy that has given its first answer."""

    def __init__(self, tree, port, host):
        self.tree, self.port = tree, port
        tree.await_port(port)
        get(port, host=host)
        self.answered = time.monotonic()
        self.asked = 1

    def ask(self, load, requests):
        self.asked += requests
        return load.run(self.port, requests)


@contextmanager
def running(proxy, task):
    """A run that is over when the block is. With logs on, every request has to have a line then:
    a proxy that drops lines does less than the others."""
    tree, port = proxy.start(task)
    try:
        run = Run(tree, port, task.host)
        yield run
    finally:
        tree.end()
    lines = tree.output.read_bytes().count(b"\n")
    tree.output.unlink()
    if proxy.logs and lines < run.asked:
        raise Wrong(f"it logged {lines} lines for {run.asked} requests")


def round_up(requests, multiple):
    """Every connection and stream gets the same number of requests."""
    return max(1, round(requests / multiple)) * multiple


# Seconds.
WARM_UP = 0.5
SETTLE = 2
SIZE_OF_BODY = {"/1m": MIB, "/100m": 100 * MIB, "/up": MIB}

GET = Closed("/1k", 64)
ROWS = {
    "get": Cost("1 KiB GET, HTTP/1.1 to HTTP/1.1, 64 connections", load=GET),
    "h2": Cost("1 KiB GET, HTTP/1.1 to HTTP/2, 64 connections", "http2", {"http2_out": True},
               load=GET),
    "h2c": Cost("1 KiB GET, HTTP/2 to HTTP/2, 8 connections of 16 streams", "http2",
                {"http2_out": True, "http2_in": True}, load=Closed("/1k", 8, 16, http2=True)),
    "one": Cost("1 KiB GET, HTTP/1.1 to HTTP/1.1, one connection", load=Closed("/1k", 1)),
    "down": Bytes("1 MiB down, 16 connections", load=Closed("/1m", 16)),
    "big": Bytes("100 MiB down, 4 connections", load=Closed("/100m", 4)),
    "up": Bytes("1 MiB up, 16 connections", load=Closed("/up", 16)),
    "resumed": Handshakes("a new connection to the origin for each request, which resumes sessions",
                          "resuming", load=Closed("/1k", 16)),
    "full": Handshakes("a new connection to the origin for each request, which resumes nothing",
                       "forgetful", load=Closed("/1k", 16)),
    "idle": IdleConnections("idle client connections that made one request each"),
    "open": OpenLoop("1 KiB GET, 2,000 a second over 32 connections, whatever happens"),
    "start": Start("from exec to the first answer"),
    "workers": Cost("as get, with two workers, which share both cores with the load",
                    task={"workers": 2, "cores": frozenset(BOTH_CORES)},
                    others={"one worker": {"workers": 1}}, load=GET),
    "bindings-100": Cost("as get, 100 bindings on a shared listener, the last one asked for",
                         task={"bindings": 100, "shared": True},
                         others={"one binding": {"bindings": 1}}, peers=False, load=GET),
    "bindings-1000": Cost("as get, 1,000 bindings on a shared listener, the last one asked for",
                          task={"bindings": 1000, "shared": True},
                          others={"one binding": {"bindings": 1}}, peers=False, load=GET),
}
