"""curl, in both versions of HTTP, against an origin of each version."""

import hashlib
import json
import select
import subprocess
from dataclasses import dataclass
from urllib.parse import urlencode

from checks import PATIENCE, Wrong, expect
from world import SPEAKS, arrived

VERSIONS = {"HTTP/1.1": "--http1.1", "HTTP/2": "--http2-prior-knowledge"}
# One request for each run of curl: that of Debian 12 fails by itself when it uses a connection of
# --http2-prior-knowledge again, whatever the server.
ORIGINS = {"one": "HTTP/1.1", "two": "HTTP/2"}
EVENTS = 5


@dataclass
class Answer:
    status: int
    head: str
    body: bytes
    said: str

    def json(self):
        expect(self.status, 200, f"the status, with {self.body[:300]!r},")
        return json.loads(self.body)


def curl(world, *arguments):
    """One request. `-q`: no file of the user's has a say."""
    body, head = world.directory / "curl.body", world.directory / "curl.head"
    for each in (body, head):
        each.write_bytes(b"")
    done = subprocess.run(
        ["curl", "-q", "-sS", "--max-time", str(PATIENCE), "-o", body, "-D", head, "-w", "%{json}",
         *arguments], capture_output=True, stdin=subprocess.DEVNULL, timeout=2 * PATIENCE, check=False)
    said = done.stderr.decode(errors="replace")
    if done.returncode != 0:
        raise Wrong(f"curl ends with {done.returncode}: {said.strip()}")
    about = json.loads(done.stdout)
    return Answer(about["http_code"], head.read_text(errors="replace").lower(), body.read_bytes(), said)


def run(checks, world):
    demands_certificates(checks, world)
    for version, flag in VERSIONS.items():
        for binding, spoken in ORIGINS.items():
            name = f"curl, {version} to {spoken}"
            ways_in(checks, world, name, flag, binding)
            bodies(checks, world, name, flag, binding)
            heads(checks, world, name, flag, binding)
            events(checks, world, name, flag, binding)
        protocols(checks, world, version, flag)
    expectations(checks, world)


def demands_certificates(checks, world):
    for origin in ("one", "two", "both", "chat", "brew", "calls", "mortal"):
        with checks(f"the origin {origin} serves nobody who has no certificate"):
            try:
                answer = curl(world, "--cacert", world.servers, "--connect-to",
                              f"::127.0.0.1:{world.origins[origin]}", f"https://{origin}.test/")
            except Wrong:
                # The alert, or what each server makes of it. The checks below show that it is there.
                pass
            else:
                raise Wrong(f"it answered with {answer.status}")


def ways_in(checks, world, name, flag, binding):
    ways = {
        "own port": [world.url(binding, "/me")],
        "-x own port": ["-x", world.url(binding), f"http://{binding}.test/me"],
        "-x shared listener": ["-x", world.shared(), f"http://{binding}.test/me"],
        "unix socket": ["--unix-socket", world.socket(binding), "http://localhost/me"],
        "shared listener, Host": ["-H", f"Host: {binding}", world.shared("/me")],
        "shared listener, below localhost":
            [f"http://{binding}.localhost:{world.shared_port}/me"],
    }
    for way, arguments in ways.items():
        with checks(f"{name}, {way}"):
            arrived(curl(world, flag, *arguments).json(), binding, method="GET", path="/me")


def protocols(checks, world, version, flag):
    """An origin that speaks both is spoken to as the client speaks, unless `protocol` says otherwise."""
    as_client = {"HTTP/1.1": "1.1", "HTTP/2": "2.0"}[version]
    for binding, spoken in (("both", as_client), ("only-one", "1.1"), ("only-two", "2.0")):
        with checks(f"curl, {version}, to an origin of both by the binding {binding}"):
            arrived(curl(world, flag, world.url(binding)).json(), binding, version=spoken)


def bodies(checks, world, name, flag, binding):
    big = world.big.read_bytes()
    digest = hashlib.sha256(big).hexdigest()
    with checks(f"{name}, a download of {len(big) >> 20} MiB arrives as it was"):
        body = curl(world, flag, world.url(binding, "/big")).body
        expect(hashlib.sha256(body).hexdigest(), digest, f"the sum of {len(body)} bytes")
    ways = {"with a length": [], "without a length": ["-H", "Content-Length:"]}
    if flag == "--http1.1":
        ways["without a length"] = ["-H", "Transfer-Encoding: chunked"]
    for way, more in ways.items():
        with checks(f"{name}, an upload {way} arrives as it was"):
            seen = curl(world, flag, "-T", world.big, *more, world.url(binding, "/up")).json()
            arrived(seen, binding, method="PUT", bytes=len(big), sha256=digest)


def heads(checks, world, name, flag, binding):
    with checks(f"{name}, HEAD"):
        answer = curl(world, flag, "-I", world.url(binding, "/me"))
        expect(answer.status, 200, "the status")
        expect(f"x-version: {SPEAKS[binding]}" in answer.head, True, "what the head has")
        expect("content-length: " in answer.head, True, "whether the head has a length")
    for code in (204, 304):
        with checks(f"{name}, {code} has no body"):
            answer = curl(world, flag, world.url(binding, f"/status?code={code}"))
            expect((answer.status, answer.body), (code, b""), "the answer")
            expect('etag: "one"' in answer.head, True, "whether the head has the ETag")
    with checks(f"{name}, a field of 60 KiB in the request"):
        long = "v" * (60 << 10)
        file = world.directory / "long-header"
        file.write_text(f"x-long: {long}")
        seen = curl(world, flag, "-H", f"@{file}", world.url(binding)).json()
        arrived(seen, binding)
        expect(seen["headers"].get("x-long"), long, "the field")
    with checks(f"{name}, a field of 60 KiB in the answer"):
        answer = curl(world, flag, world.url(binding, f"/long-header?size={60 << 10}"))
        expect((answer.status, answer.body), (200, b"long"), "the answer")
        expect("x-long: " + "v" * (60 << 10) in answer.head, True, "whether the field is there")
    with checks(f"{name}, an unknown method"):
        brewer = "brew" if binding == "one" else binding
        seen = curl(world, flag, "-X", "BREW", world.url(brewer)).json()
        expect((seen["method"], seen["version"]), ("BREW", SPEAKS[binding]), "what the origin saw")
    trailers(checks, world, name, flag, binding)


def trailers(checks, world, name, flag, binding):
    """Those of answers. curl cannot send any; Node can."""
    with checks(f"{name}, trailers"):
        answer = curl(world, flag, "-H", "TE: trailers", world.url(binding, "/trailers"))
        expect(answer.body, b"a body, and then a trailer", "the body")
        expect("x-checksum: 4711" in answer.head, True, f"the trailer in {answer.head!r}")
    if flag == "--http1.1":
        with checks(f"{name}, no trailers for who did not ask for them"):
            answer = curl(world, flag, world.url(binding, "/trailers"))
            expect(answer.body, b"a body, and then a trailer", "the body")
            expect("x-checksum: 4711" in answer.head, False, f"the trailer in {answer.head!r}")


def expectations(checks, world):
    """Over HTTP/1.1: curl does not wait for the go-ahead in HTTP/2."""
    part = world.directory / "part"
    part.write_bytes(world.big.read_bytes()[:2 << 20])
    digest = hashlib.sha256(part.read_bytes()).hexdigest()
    # curl waits for the go-ahead longer than it may take altogether: it cannot go on by itself.
    waiting = ["--http1.1", "-v", "-H", "Expect: 100-continue",
               "--expect100-timeout", str(2 * PATIENCE), "-T", part]
    for binding, spoken in ORIGINS.items():
        with checks(f"curl, HTTP/1.1 to {spoken}, Expect: 100-continue with 2 MiB"):
            answer = curl(world, *waiting, world.url(binding))
            arrived(answer.json(), binding, bytes=2 << 20, sha256=digest)
            expect("< HTTP/1.1 100 Continue" in answer.said, True, "the go-ahead")
        with checks(f"curl, HTTP/1.1 to {spoken}, an origin that declines gets no body"):
            answer = curl(world, *waiting, world.url(binding, "/decline"))
            expect((answer.status, answer.body), (413, b"declined"), "the answer")
            expect(curl(world, world.url(binding, "/declined")).body, b"0", "the bytes it got")


def events(checks, world, name, flag, binding):
    """The origin sends an event only when the one before was confirmed by a request of its own."""
    with checks(f"{name}, server-sent events arrive one by one"):
        key = f"{flag}-{binding}"
        command = ["curl", "-q", "-sSN", "--max-time", str(PATIENCE), flag,
                   world.url(binding, "/events?" + urlencode({"key": key}))]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              stdin=subprocess.DEVNULL) as reader:
            try:
                for event in range(EVENTS):
                    expect(next_event(reader), f"data: {event}\n\n".encode(), "the event")
                    confirmation = urlencode({"key": key, "event": event})
                    curl(world, flag, world.url(binding, f"/confirm?{confirmation}"))
                expect(reader.stdout.read(), b"", "what follows the last event")
                expect(reader.wait(PATIENCE), 0, "curl's exit code")
            finally:
                reader.kill()


def next_event(reader):
    readable, _, _ = select.select([reader.stdout], [], [], PATIENCE)
    if not readable:
        raise Wrong("no event came")
    return reader.stdout.read1(4096)
