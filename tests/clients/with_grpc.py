"""grpcio with messages of plain bytes: no generated code is needed."""

import uuid
from queue import Queue

import grpc

from checks import PATIENCE, Wrong, expect

SIZES = [("grpc.max_receive_message_length", 8 << 20), ("grpc.max_send_message_length", 8 << 20)]


class Calls:
    """The methods of the service on one channel."""

    def __init__(self, target, authority=None):
        options = SIZES + ([("grpc.default_authority", authority)] if authority else [])
        self.channel = grpc.insecure_channel(target, options)
        self.echo = self.channel.unary_unary("/test.Calls/Echo")
        self.fail = self.channel.unary_unary("/test.Calls/Fail")
        self.tell = self.channel.unary_unary("/test.Calls/Tell")
        self.count = self.channel.unary_stream("/test.Calls/Count")
        self.hang = self.channel.unary_stream("/test.Calls/Hang")
        self.gather = self.channel.stream_unary("/test.Calls/Gather")
        self.converse = self.channel.stream_stream("/test.Calls/Converse")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.channel.close()


def run(checks, world):
    ways = {
        "own port": Calls(world.address("calls")),
        # By itself gRPC would send the path of the socket as the authority, percent-encoded. That is
        # no authority, and a strict server answers it with PROTOCOL_ERROR.
        "unix socket": Calls(f"unix:{world.socket('calls')}", "localhost"),
        "shared listener": Calls(f"localhost:{world.shared_port}", "calls"),
    }
    for way, calls in ways.items():
        with calls:
            kinds(checks, f"grpc, {way}", calls)
    with Calls(world.address("calls")) as calls:
        messages(checks, calls)
        metadata(checks, calls)
        statuses(checks, calls)
        endings(checks, calls)
    no_origin(checks, world)
    killed(checks, world)


def kinds(checks, name, calls):
    with checks(f"{name}, unary-unary"):
        expect(calls.echo(b"hello", timeout=PATIENCE), b"hello", "the answer")
    with checks(f"{name}, unary-stream"):
        answers = list(calls.count(b"100", timeout=PATIENCE))
        expect(answers, [str(number).encode() for number in range(100)], "the answers")
    with checks(f"{name}, stream-unary"):
        answer = calls.gather(iter([b"a", b"b", b"c"]), timeout=PATIENCE)
        expect(answer, b"a+b+c", "the answer")
    with checks(f"{name}, stream-stream, each answered before the next is sent"):
        converse(calls)


def converse(calls):
    """A message is queued only when the one before was answered: neither side can run ahead."""
    outgoing = Queue()
    answers = calls.converse(iter(outgoing.get, None), timeout=PATIENCE)
    for message in (b"one", b"two", b"three"):
        outgoing.put(message)
        expect(next(answers), message.upper(), "the answer")
    outgoing.put(None)
    expect(list(answers), [], "what follows the last answer")
    expect(answers.code(), grpc.StatusCode.OK, "the status")


def messages(checks, calls):
    with checks("grpc, messages of 4 MiB both ways"):
        big = bytes(range(256)) * (4 << 12)
        expect(calls.echo(big, timeout=PATIENCE) == big, True, "whether it came back as it was")
    with checks("grpc, 200 calls at once on one channel"):
        running = [calls.echo.future(b"%d" % number, timeout=PATIENCE) for number in range(200)]
        answers = [call.result() for call in running]
        expect(answers, [b"%d" % number for number in range(200)], "the answers")


def metadata(checks, calls):
    text, raw = ("x-text", "some text, 100 %"), ("x-raw-bin", bytes(range(256)))
    with checks("grpc, metadata both ways, also -bin, also after the message"):
        _, call = calls.echo.with_call(b"", timeout=PATIENCE, metadata=[text, raw])
        contains(call.initial_metadata(), text, raw)
        contains(call.trailing_metadata(), ("x-text-after", text[1]), ("x-raw-after-bin", raw[1]))


def contains(fields, *wanted):
    have = [(field.key, field.value) for field in fields]
    for field in wanted:
        expect(field in have, True, f"whether {field} is in {have}")


def statuses(checks, calls):
    for code in grpc.StatusCode:
        if code == grpc.StatusCode.OK:
            continue
        with checks(f"grpc, status {code.name} and its details"):
            error = failure(lambda: calls.fail(code.name.encode(), timeout=PATIENCE))
            expect(error.code(), code, f"the status, with {error.details()!r},")
            details = f"told to: 100 % {code.name}, ünd\nso weiter"
            expect(error.details(), details, "the text")
            contains(error.trailing_metadata(), ("x-why", "told to"))


def failure(call):
    """The error that a call must end with."""
    try:
        answer = call()
    except grpc.RpcError as error:
        return error
    raise Wrong(f"no error, but {answer!r}")


def endings(checks, calls):
    with checks("grpc, a deadline: DEADLINE_EXCEEDED here, an end there"):
        key = uuid.uuid4().bytes
        error = failure(lambda: list(calls.hang(key, timeout=1)))
        expect(error.code(), grpc.StatusCode.DEADLINE_EXCEEDED, "the status")
        expect(calls.tell(key, timeout=2 * PATIENCE), b"ended", "what became of the call")
    with checks("grpc, a cancellation reaches the server"):
        key = uuid.uuid4().bytes
        call = calls.hang(key, timeout=2 * PATIENCE)
        expect(next(call), b"here", "the first message")
        call.cancel()
        expect(failure(lambda: next(call)).code(), grpc.StatusCode.CANCELLED, "the status")
        expect(calls.tell(key, timeout=2 * PATIENCE), b"ended", "what became of the call")


def no_origin(checks, world):
    with checks("grpc, an origin that is not there: UNAVAILABLE"), Calls(world.address("dead")) as calls:
        error = failure(lambda: calls.echo(b"", timeout=PATIENCE))
        expect(error.code(), grpc.StatusCode.UNAVAILABLE, f"the status, with {error.details()!r},")
    with checks("grpc, an origin of HTTP/1.1: UNIMPLEMENTED"), Calls(world.address("one")) as calls:
        error = failure(lambda: calls.echo(b"", timeout=PATIENCE))
        expect(error.code(), grpc.StatusCode.UNIMPLEMENTED, f"the status, with {error.details()!r},")


def killed(checks, world):
    """An answer that breaks off must not look whole, and the call was seen: not UNAVAILABLE."""
    with checks("grpc, the server is killed in the middle of a stream"), \
            Calls(world.address("mortal")) as calls:
        call = calls.hang(b"", timeout=PATIENCE)
        expect(next(call), b"here", "the first message")
        world.mortal.kill()
        code = failure(lambda: next(call)).code()
        # Neither of these two would come from the broken connection.
        late = (grpc.StatusCode.OK, grpc.StatusCode.DEADLINE_EXCEEDED)
        expect(code in late, False, f"whether {code} is one of {late}")
