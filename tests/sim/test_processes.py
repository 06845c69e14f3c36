"""CPU and memory of other processes."""

import os
import subprocess
import sys

from gateway.sim.processes import cpu_seconds, family, rss_bytes

BUSY = """
import subprocess, sys
work = "sum(range(20_000_000)); print(1, flush=True); input()"
subprocess.run([sys.executable, "-c", work], stdin=0)
"""


def test_a_child_counts_for_its_parent() -> None:
    """Descendants are part of a process's CPU unless told otherwise, and all of them are found."""
    with subprocess.Popen([sys.executable, "-c", BUSY], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout.readline() == b"1\n"
        assert len(family(parent.pid)) == 2
        assert cpu_seconds([parent.pid]) > cpu_seconds([parent.pid], children=False) > 0
        assert cpu_seconds([parent.pid, *family(parent.pid)]) <= cpu_seconds([parent.pid]) + 0.5
        assert rss_bytes(parent.pid) > 1024**2
        parent.stdin.write(b"\n")
        parent.stdin.close()
    assert (family(parent.pid), cpu_seconds([parent.pid]), rss_bytes(parent.pid)) == ([], 0.0, 0)


def test_oneself() -> None:
    """The own process is there."""
    assert os.getpid() in family(os.getpid())
