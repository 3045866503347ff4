"""Runs every check. See `run`, which installs what this needs."""

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
                print(f"mtlsd said:\n{world.log.read_text()[-4000:]}", flush=True)
    took = time.monotonic() - began
    if checks.wrong:
        print(f"{checks.count} checks, {checks.wrong} went wrong, {took:.0f} s")
    else:
        print(f"{checks.count} checks, all well")
    return 1 if checks.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
