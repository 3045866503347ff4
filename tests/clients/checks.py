"""Counts checks, and lets none of them last for ever."""

import signal
import time
from contextlib import contextmanager

# What one check may take, in seconds. Clients are given less, so that they can say what they waited for.
LIMIT = 30
PATIENCE = 15


class TimeUp(BaseException):
    """Not an Exception, so that no client takes it for an error of its own and tries again."""


class Wrong(Exception):
    """Something is not as it should be."""


class Checks:
    """`with checks(NAME):` is one check. It is wrong when something is raised in it."""

    def __init__(self):
        self.count = 0
        self.wrong = 0
        signal.signal(signal.SIGALRM, time_is_up)

    @contextmanager
    def __call__(self, name):
        self.count += 1
        signal.alarm(LIMIT)
        try:
            yield
        except (Exception, TimeUp) as error:
            self.wrong += 1
            print(f"FAIL  {name}: {type(error).__name__}: {error}", flush=True)
        else:
            print(f"ok    {name}", flush=True)
        finally:
            signal.alarm(0)


def time_is_up(*_):
    raise TimeUp(f"it took longer than {LIMIT} s")


def expect(seen, wanted, what):
    """Raises unless the two are the same."""
    if seen != wanted:
        raise Wrong(f"{what} is {short(seen)} in place of {short(wanted)}")


def short(value):
    text = repr(value)
    return text if len(text) < 600 else f"{text[:600]}... ({len(text)} characters)"


def until(state, what):
    """Waits for the first true value of `state`."""
    deadline = time.monotonic() + PATIENCE
    while True:
        value = state()
        if value:
            return value
        if time.monotonic() > deadline:
            raise Wrong(f"waited in vain for {what}")
        time.sleep(0.02)
