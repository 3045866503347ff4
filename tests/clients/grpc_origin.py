"""A gRPC server that demands a client certificate. Its messages are plain bytes.

    grpc_origin.py CERTIFICATE KEY AUTHORITY-OF-CLIENTS NAME

The first line on standard output has the port, under the name.
"""

import json
import signal
import sys
import threading
from concurrent import futures
from pathlib import Path

import grpc

# How long a call that hangs waits for its end, in seconds.
PATIENCE = 15

# What became of the calls that hang, by their keys.
outcomes = {}
changed = threading.Condition()


def echo(request, context):
    """Sends the fields named x-… back, both before the message and after it."""
    ours = [(key, value) for key, value in context.invocation_metadata() if key.startswith("x-")]
    context.send_initial_metadata(ours)
    context.set_trailing_metadata([(f"{key.removesuffix('-bin')}-after{'-bin' * key.endswith('-bin')}",
                                    value) for key, value in ours])
    return request


def count(request, _):
    for number in range(int(request)):
        yield str(number).encode()


def gather(requests, _):
    return b"+".join(requests)


def converse(requests, _):
    """Answers each message before it reads the next."""
    for request in requests:
        yield request.upper()


def fail(request, context):
    code = next(each for each in grpc.StatusCode if each.name == request.decode())
    context.set_trailing_metadata([("x-why", "told to")])
    context.abort(code, f"told to: 100 % {code.name}, ünd\nso weiter")


def hang(request, context):
    """Sends one message, and then nothing, until the call is ended or its own patience is."""
    ended = threading.Event()

    def end():
        note(request, b"ended")
        ended.set()

    # Noted here, and not after the message: a call that ends while the message is on its way is
    # not resumed.
    if not context.add_callback(end):
        end()
    yield b"here"
    if not ended.wait(PATIENCE):
        note(request, b"went on")


def note(request, outcome):
    """The first word on a call is the last."""
    with changed:
        outcomes.setdefault(request, outcome)
        changed.notify_all()


def tell(request, _):
    """What became of the call of that key."""
    with changed:
        changed.wait_for(lambda: request in outcomes, 2 * PATIENCE)
        return outcomes.get(request, b"unknown")


HANDLERS = {
    "Echo": grpc.unary_unary_rpc_method_handler(echo),
    "Fail": grpc.unary_unary_rpc_method_handler(fail),
    "Tell": grpc.unary_unary_rpc_method_handler(tell),
    "Count": grpc.unary_stream_rpc_method_handler(count),
    "Hang": grpc.unary_stream_rpc_method_handler(hang),
    "Gather": grpc.stream_unary_rpc_method_handler(gather),
    "Converse": grpc.stream_stream_rpc_method_handler(converse),
}


def main():
    certificate, key, authority = (Path(path).read_bytes() for path in sys.argv[1:4])
    sizes = [("grpc.max_receive_message_length", 8 << 20), ("grpc.max_send_message_length", 8 << 20)]
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=32), options=sizes)
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("test.Calls", HANDLERS)])
    credentials = grpc.ssl_server_credentials([(key, certificate)], authority, require_client_auth=True)
    port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    print(json.dumps({sys.argv[4]: port}), flush=True)
    signal.sigwait([signal.SIGTERM, signal.SIGINT])
    server.stop(0)


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGINT])
    main()
