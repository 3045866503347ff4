"""Java's HttpClient. The client is in Client.java, and makes all requests in one go: it starts slowly."""

import json
import subprocess

from checks import PATIENCE, Wrong, expect
from world import HERE, arrived

METHODS = ("GET", "POST", "STREAM")


def run(checks, world):
    requests = {}
    for binding in ("one", "two", "both"):
        through = f"http://{binding}.test/v1/me"
        for method in METHODS:
            name = f"java to {binding}, {method}"
            requests[f"{name}, direct"] = binding, method, world.url(binding, "/v1/me"), "-"
            requests[f"{name}, ProxySelector"] = binding, method, through, world.ports[binding]
            requests[f"{name}, ProxySelector of the shared listener"] = \
                binding, method, through, world.shared_port
    answers = []
    with checks("java runs"):
        answers = java([f"{method} {url} {proxy}" for _, method, url, proxy in requests.values()])
    # Without an answer, each of these fails.
    answers += ["0 none"] * (len(requests) - len(answers))
    for (name, (binding, method, *_)), answer in zip(requests.items(), answers):
        with checks(name):
            look_at(answer, binding, method)


def java(requests):
    done = subprocess.run(["java", HERE / "Client.java", *requests], capture_output=True, text=True,
                          stdin=subprocess.DEVNULL, timeout=2 * PATIENCE - 2, check=False)
    if done.returncode != 0:
        raise Wrong(f"java ends with {done.returncode}: {done.stderr.strip()}")
    return done.stdout.splitlines()


def look_at(answer, binding, method):
    status, _, body = answer.partition(" ")
    expect(status, "200", f"the status, with {body!r},")
    seen = json.loads(body)
    sent = 0 if method == "GET" else len("a body")
    arrived(seen, binding, path="/v1/me", bytes=sent)
    # The offer of h2c is between Java and mtlsd.
    for field in ("upgrade", "http2-settings"):
        expect(seen["headers"].get(field), None, f"the field {field}")
