"""CPU time and memory of other processes, read from Linux's /proc."""

import os
from collections.abc import Iterable
from pathlib import Path

_TICK = os.sysconf("SC_CLK_TCK")


def family(pid: int) -> list[int]:
    """Return a process and all its descendants; those that are gone are left out."""
    members, queue = [], [pid]
    while queue:
        current = queue.pop()
        try:
            tasks = list(Path(f"/proc/{current}/task").iterdir())
            members.append(current)
            for task in tasks:
                queue += [int(child) for child in (task / "children").read_text().split()]
        except (FileNotFoundError, ProcessLookupError):
            continue
    return members


def cpu_seconds(pids: Iterable[int], children: bool = True) -> float:
    """Return the user and system time that these processes have spent, with all living descendants unless told otherwise."""
    ticks = 0
    members = {member for root in pids for member in (family(root) if children else [root])}
    for pid in members:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()  # the name before ")" may hold anything
        except (FileNotFoundError, ProcessLookupError):
            continue
        ticks += int(fields[11]) + int(fields[12])
    return ticks / _TICK


def rss_bytes(pid: int) -> int:
    """Return the resident memory of one process; 0 when it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:")), 0)
