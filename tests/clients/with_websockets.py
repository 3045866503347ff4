"""The websockets package of Python. The other side, in feed.py, is the same package's server."""

import socket

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from checks import PATIENCE, Wrong, expect, until

MIB = bytes(range(256)) * 4096


def run(checks, world):
    url = f"ws://{world.address('chat')}"
    ways = {
        "own port": (url, {}),
        # The URL names the binding, and no resolver has to know it.
        "shared listener": ("ws://chat", {"sock": connection(world.shared_port)}),
        # With CONNECT to port 80, as every proxy of WebSockets is asked.
        "proxy=": ("ws://chat.test", {"proxy": world.url("chat")}),
    }
    for way, (base, options) in ways.items():
        with checks(f"websockets, {way}: text, binary, 1 MiB"), joined(base, **options) as feed:
            for message in ("text, with ümlaut", b"\x00binary\xff", MIB, "t" * len(MIB)):
                feed.send(message)
                expect(feed.recv(PATIENCE), message, "the echo")
    both_ping(checks, url)
    both_close(checks, world, url)


def connection(port):
    return socket.create_connection(("localhost", port), timeout=PATIENCE)


def joined(url, proxy=None, **options):
    return connect(url, proxy=proxy, open_timeout=PATIENCE, close_timeout=PATIENCE,
                   max_size=4 << 20, **options)


def both_ping(checks, url):
    with checks("websockets: the client's ping is answered"), joined(url) as feed:
        expect(feed.ping(b"hello").wait(PATIENCE), True, "whether a pong came")
    with checks("websockets: the server's ping is answered"), joined(f"{url}/ping") as feed:
        expect(feed.recv(PATIENCE), "it is there", "what the server says")


def both_close(checks, world, url):
    with checks("websockets: the client's close code reaches the server"):
        with joined(f"{url}/?key=python") as feed:
            feed.close(4001, "enough")
        closed = until(lambda: world.feed.closed.get("python"), "the close at the server")
        expect(closed, (4001, "enough"), "what the server saw")
    with checks("websockets: the server's close code reaches the client"), joined(f"{url}/bye") as feed:
        try:
            message = feed.recv(PATIENCE)
        except ConnectionClosed as end:
            expect((end.rcvd.code, end.rcvd.reason), (4002, "gone home"), "what the client saw")
        else:
            raise Wrong(f"a message came: {message!r}")
