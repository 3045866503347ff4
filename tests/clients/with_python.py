"""requests and httpx."""

import hashlib

import httpx
import requests

from checks import PATIENCE, expect
from world import arrived

UPLOAD = [b"one piece, ", b"another, ", b"x" * (1 << 20)]
DIGEST = hashlib.sha256(b"".join(UPLOAD)).hexdigest()
EVENTS = 5


def run(checks, world):
    for binding in ("one", "two"):
        with_requests(checks, world, binding)
        with_httpx(checks, world, binding)


def with_requests(checks, world, binding):
    with checks(f"requests to {binding}, direct"):
        answer = requests.get(world.url(binding, "/v1/me"), timeout=PATIENCE)
        arrived(answer.json(), binding, path="/v1/me")
    with checks(f"requests to {binding}, proxies="):
        answer = requests.get(f"http://{binding}.test/v1/me", timeout=PATIENCE,
                              proxies={"http": world.url(binding)})
        arrived(answer.json(), binding, path="/v1/me")
    with checks(f"requests to {binding}, Host on the shared listener"):
        answer = requests.get(world.shared("/v1/me"), headers={"Host": binding}, timeout=PATIENCE)
        arrived(answer.json(), binding, path="/v1/me")
    with checks(f"requests to {binding}, a body in pieces"):
        answer = requests.post(world.url(binding), data=iter(UPLOAD), timeout=PATIENCE)
        arrived(answer.json(), binding, method="POST", sha256=DIGEST)


def with_httpx(checks, world, binding):
    own, socket = world.url(binding), world.socket(binding)
    ways = {
        "HTTP/1.1": (own, lambda: {}),
        "HTTP/2": (own, lambda: {"http1": False, "http2": True}),
        "proxy=": (f"http://{binding}.test", lambda: {"proxy": own}),
        # A transport ends with its client, so each client gets one of its own.
        "unix socket": ("http://localhost", lambda: {"transport": httpx.HTTPTransport(uds=socket)}),
    }
    for way, (base, options) in ways.items():
        with checks(f"httpx to {binding}, {way}"), connected(base, options) as client:
            arrived(client.get("/v1/me").json(), binding, path="/v1/me")
        with checks(f"httpx to {binding}, {way}, a body in pieces"), connected(base, options) as client:
            answer = client.post("/v1/me", content=iter(UPLOAD))
            arrived(answer.json(), binding, method="POST", sha256=DIGEST)
        with checks(f"httpx to {binding}, {way}, server-sent events arrive one by one"), \
                connected(base, options) as client:
            events(client, f"httpx {way} {binding}")


def connected(base, options):
    return httpx.Client(base_url=base, timeout=PATIENCE, **options())


def events(client, key):
    """The origin sends an event only when the one before was confirmed by a request of its own."""
    seen = []
    with client.stream("GET", "/events", params={"key": key}) as answer:
        for line in answer.iter_lines():
            if line:
                client.get("/confirm", params={"key": key, "event": len(seen)})
                seen.append(line)
    expect(seen, [f"data: {event}" for event in range(EVENTS)], "the events")
