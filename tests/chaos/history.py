"""What happened, as seen from outside. All times are `time.monotonic()` of the process that records."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Self


@dataclass(frozen=True, slots=True)
class Alert:
    """One problem: sent until it was answered OK, and what its sender or a person did about it."""

    incident: str
    """The name in the answer. It is compared for equality only."""
    accepted: float
    """When the first OK arrived at the sender."""
    receivers: tuple[str, ...]
    """The address of each level, first level first."""
    timeout: float
    """Seconds between two levels."""
    ending: str = ""
    """`acknowledged`, `closed` (resolved by a person), `over` (resolved by the sender), or empty: no person answers."""
    ended: float | None = None
    """When the OK to it arrived; None: it was never answered OK."""


@dataclass(slots=True)
class Call:
    """One request (webhook) or message (mail) that reached a receiver."""

    receiver: str
    incident: str
    level: int
    key: str
    """The idempotency key: `Tocsin-Delivery` or `Message-ID`."""
    began: float
    answered: float | None = None
    """When a 2xx was written; None: the sender was refused, cut off, or gone by then. Only an answered call rings."""


@dataclass(slots=True)
class Fault:
    """Something that was broken, from `began` until it was there again: a process serves, a store answers."""

    name: str
    began: float
    ended: float
    harms_calls: bool = False
    """A process that makes the calls was killed or frozen: a call under way may be made again with the same key."""
    forgets_since: float | None = None
    """A copy of this moment replaced a database: what happened between this and `ended` is gone from it."""
    refused: int = 0
    """How many calls of senders and people were told something else than OK while it lasted."""


@dataclass(slots=True)
class History:
    """Everything the checker is told."""

    alerts: list[Alert] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    stalls: list[tuple[float, float]] = field(default_factory=list)
    """When the recorder itself did not run: what it notes at the end of a stall may have arrived at its beginning."""
    refusals: dict[str, int] = field(default_factory=dict)
    """What senders and people were told instead of OK, and how often."""

    @property
    def refused(self) -> int:
        """How many calls were told something else than OK so far."""
        return sum(self.refusals.values())

    def write(self, path: Path) -> None:
        """As JSON."""
        path.write_text(json.dumps(asdict(self), indent=1))

    @classmethod
    def read(cls, path: Path) -> Self:
        """What `write` wrote."""
        data = json.loads(path.read_text())
        return cls(
            alerts=[Alert(**{**each, "receivers": tuple(each["receivers"])}) for each in data["alerts"]],
            calls=[Call(**each) for each in data["calls"]],
            faults=[Fault(**each) for each in data["faults"]],
            stalls=[(began, ended) for began, ended in data["stalls"]],
            refusals=data["refusals"],
        )

    def by_incident(self) -> dict[str, list[Call]]:
        """The calls of each alert in the order of their arrival; also for alerts without any."""
        calls: dict[str, list[Call]] = {alert.incident: [] for alert in self.alerts}
        for call in sorted(self.calls, key=lambda each: each.began):
            calls.setdefault(call.incident, []).append(call)
        return calls


def first_rings(calls: Iterable[Call]) -> dict[int, Call]:
    """The first answered call of each level."""
    rings: dict[int, Call] = {}
    for call in calls:
        if call.answered is not None:
            rings.setdefault(call.level, call)
    return rings
