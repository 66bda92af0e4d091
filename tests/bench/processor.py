"""Whose processor time a figure costs: of the services, of the stores, and of the bench itself."""

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tests.bench.report import report

_KINDS: Final = {
    b"postgres": "postgresql",  # first: the titles of its sessions name the services
    b"valkey": "redis",
    b"tocsin_ingest": "ingest",
    b"tocsin_escalation": "escalation",
    b"tocsin_notify": "notify",
}
_TICKS: Final = os.sysconf("SC_CLK_TCK")


def spent() -> dict[str, float]:
    """Processor seconds of this process and of all its descendants until now, by kind; `bench` is what is none of the others.

    Those of processes that have ended count where their parent has waited for them, as `man 5 proc` says of `cutime`.
    """
    parents, times, kinds = dict[int, int](), dict[int, float](), dict[int, str]()
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                stat, command = (folder / "stat").read_text(), (folder / "cmdline").read_bytes()
            except (FileNotFoundError, ProcessLookupError):  # it has ended
                continue
            name, _, rest = stat.rpartition(")")
            fields = rest.split()
            pid = int(folder.name)
            parents[pid] = int(fields[1])
            times[pid] = sum(map(int, fields[11:15])) / _TICKS
            # One that has ended has a name, but no command line any more.
            kinds[pid] = next((kind for word, kind in _KINDS.items() if word in command + name.encode()), "bench")
    found: dict[str, float] = dict.fromkeys(("bench", *_KINDS.values()), 0.0)
    for pid, seconds in times.items():
        if _descends(pid, parents):
            found[kinds[pid]] += seconds
    return found


class Watched:
    """What parts of a core were used since it was made."""

    def __init__(self) -> None:
        self._before, self._began = spent(), time.monotonic()

    def shares(self) -> dict[str, float]:
        """By kind, until now."""
        seconds = time.monotonic() - self._began
        return {kind: (used - self._before[kind]) / seconds for kind, used in spent().items()}


def beyond(shares: Mapping[str, float], calm: Mapping[str, float]) -> dict[str, float]:
    """How much more of a core each kind used than in calm times."""
    return {kind: max(0.0, share - calm[kind]) for kind, share in shares.items()}


def report_processor(figure: str, before: dict[str, float], count: int) -> None:
    """One line for each kind: the microseconds that one of `count` has cost since `before`; the base is that of all kinds."""
    costs = {kind: (seconds - before[kind]) / count * 1e6 for kind, seconds in spent().items()}
    total = sum(costs.values())
    for kind, cost in costs.items():
        if not cost:
            continue
        report(f"{figure}_processor_of_{kind}", cost, "us", total, cost / total)


def _descends(pid: int, parents: dict[int, int]) -> bool:
    own = os.getpid()
    while pid and pid != own:
        pid = parents.get(pid, 0)
    return pid == own
