"""Runs every check. See `run`, which installs what this needs."""

import signal
import sys
import tempfile
import time
from pathlib import Path

import with_curl
import with_grpc
import with_java
import with_node
import with_python
import with_websockets
from checks import Checks
from world import World

# With gRPC last: it ends one of the origins.
CLIENTS = (with_curl, with_python, with_websockets, with_node, with_java, with_grpc)


def main():
    # What is running is ended also when somebody ends this.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by a signal"))
    checks, began = Checks(), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mtlsd-clients-") as directory:
        world = World(Path(directory))
        try:
            world.start(sys.argv[1])
            for client in CLIENTS:
                client.run(checks, world)
        finally:
            world.end()
            if checks.wrong:
                print("mtlsd said:", *world.complaints(), sep="\n", flush=True)
    print(f"took {time.monotonic() - began:.0f} s")
    print(f"{checks.count} checks, {f'{checks.wrong} went wrong' if checks.wrong else 'all well'}")
    return 1 if checks.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
