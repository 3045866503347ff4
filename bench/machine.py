"""Processes, ports and cores: what every other file here starts and ends things with."""

import os
import signal
import socket
import subprocess
import time
from pathlib import Path

# The proxy has a core of its own; whoever loads it and whoever answers share the other one.
PROXY_CORE = {0}
LOAD_CORE = {1}
BOTH_CORES = PROXY_CORE | LOAD_CORE

# What every wait is bounded by, in seconds.
PATIENCE = 15


class Unusable(Exception):
    """Why something cannot be started here."""


class Tree:
    """A process that was started here, with all of its descendants."""

    def __init__(self, command, cores, output, environment=None):
        """Starts `command` on `cores`; its standard output and error go to the file `output`."""
        self.output = Path(output)
        # The child inherits the cores of this thread. A wrapper such as taskset would be an exec
        # more, and would be counted by the row that measures starting.
        before = os.sched_getaffinity(0)
        os.sched_setaffinity(0, cores)
        try:
            with self.output.open("ab") as out:
                self.began = time.monotonic()
                self.process = subprocess.Popen(
                    [str(word) for word in command], stdin=subprocess.DEVNULL, stdout=out,
                    stderr=out, env={**os.environ, **(environment or {})})
        finally:
            os.sched_setaffinity(0, before)

    def pids(self):
        """The process and its descendants, the oldest first."""
        found = [self.process.pid]
        for pid in found:
            for task in Path(f"/proc/{pid}/task").glob("*/children"):
                found += [int(child) for child in task.read_text().split()]
        return found

    def cpu(self):
        """Seconds of user and system time so far, with a nanosecond's resolution."""
        return sum(time.clock_gettime(cpu_clock(pid)) for pid in self.pids())

    def memory(self):
        """KiB: the memory of its own, and its share of what it shares with others (PSS)."""
        return sum(proportional(pid) for pid in self.pids())

    def await_port(self, port, step=0.0002):
        """Returns when `port` accepts connections."""
        deadline = time.monotonic() + PATIENCE
        while not accepts(port):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise Unusable(f"it does not listen; it said: {self.said()}")
            time.sleep(step)

    def said(self):
        return self.output.read_text(errors="replace")[-600:].strip()

    def end(self):
        """Lets it finish, so that its logs are written out; ends it the hard way if it will not."""
        for sign in (signal.SIGTERM, signal.SIGKILL):
            if self.process.poll() is None:
                self.process.send_signal(sign)
                try:
                    self.process.wait(5)
                except subprocess.TimeoutExpired:
                    continue


def cpu_clock(pid):
    """The clock that counts what all threads of a process, ended ones too, spent on a CPU.

    /proc/PID/stat says the same in hundredths of a second, which is too coarse for short runs.
    The arithmetic is that of clock_getcpuclockid(3) on Linux.
    """
    return (~pid << 3) | 2


def proportional(pid):
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    raise Unusable(f"/proc/{pid}/smaps_rollup has no Pss")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def accepts(port):
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0
