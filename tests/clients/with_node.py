"""Node: fetch, undici's proxy agents, http, and ws. The clients are in client.js."""

import json
import os
import subprocess

from checks import PATIENCE, Wrong, expect, until
from world import HERE, arrived
from with_python import DIGEST, EVENTS


def node(*arguments, **environment):
    done = subprocess.run(["node", HERE / "client.js", *map(str, arguments)], capture_output=True,
                          stdin=subprocess.DEVNULL, timeout=PATIENCE + 5, check=False,
                          env=os.environ | environment)
    if done.returncode != 0:
        raise Wrong(f"node ends with {done.returncode}: {done.stderr.decode().strip()}")
    return json.loads(done.stdout)


def seen(*arguments, **environment):
    """What the origin saw of the request."""
    answer = node(*arguments, **environment)
    expect(answer["status"], 200, f"the status, with {answer['body']!r},")
    return json.loads(answer["body"])


def run(checks, world):
    for binding in ("one", "two"):
        requests(checks, world, binding)
    websockets(checks, world)


def requests(checks, world, binding):
    own, port, through = world.url(binding), world.ports[binding], f"http://{binding}.test/v1/me"
    with checks(f"node to {binding}, fetch"):
        arrived(seen("fetch", f"{own}/v1/me"), binding, path="/v1/me")
    with checks(f"node to {binding}, fetch, a body in pieces"):
        arrived(seen("fetch-pieces", own), binding, method="POST", sha256=DIGEST)
    with checks(f"node to {binding}, fetch, server-sent events arrive one by one"):
        got = seen("fetch-events", own, f"node {binding}")
        expect(got, [f"data: {event}\n\n" for event in range(EVENTS)], "the events")
    for proxy, url in (("own port", own), ("shared listener", world.shared())):
        with checks(f"node to {binding}, undici's ProxyAgent, {proxy}"):
            arrived(seen("proxy-agent", url, through), binding, path="/v1/me")
        with checks(f"node to {binding}, undici's ProxyAgent to the origin's port, {proxy}"):
            host = f"{binding}.test:8443"
            arrived(seen("proxy-agent", url, f"http://{host}/v1/me"), binding, path="/v1/me", host=host)
        with checks(f"node to {binding}, undici's EnvHttpProxyAgent, {proxy}"):
            arrived(seen("env-proxy-agent", through, http_proxy=url), binding, path="/v1/me")
    with checks(f"node to {binding}, http"):
        arrived(seen("http", port, "/v1/me"), binding, path="/v1/me")
    with checks(f"node to {binding}, http with Host on the shared listener"):
        arrived(seen("http", world.shared_port, "/v1/me", binding), binding, path="/v1/me")
    with checks(f"node to {binding}, http, trailers of a request"):
        arrived(seen("http-trailers", port), binding, method="POST", bytes=6,
                trailers={"x-sum": "12"})


def websockets(checks, world):
    url = f"ws://{world.address('chat')}"
    with checks("ws: text, binary, 1 MiB, ping, and the client's close code reaches the server"):
        got = node("ws-echoes", f"{url}/?key=node")
        expect(got, {"seen": [True] * 4, "code": 4001, "reason": "enough"}, "what the client saw")
        closed = until(lambda: world.feed.closed.get("node"), "the close at the server")
        expect(closed, (4001, "enough"), "what the server saw")
    with checks("ws: the server's ping is answered"):
        expect(node("ws-listens", f"{url}/ping")["messages"], ["it is there"], "what the server says")
    with checks("ws: the server's close code reaches the client"):
        expect(node("ws-listens", f"{url}/bye"),
               {"messages": [], "code": 4002, "reason": "gone home"}, "what the client saw")
