"""Details of notices about shifts: names, open incidents, and the reason for a shift."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from tocsin_escalation.domain.schedules.model import Group, Segment, SourceKind

_LONGEST_NAME: Final = 60
_LONGEST_TITLE: Final = 80
_CAUSES: Final = (
    SourceKind.OVERRIDE,
    SourceKind.SWAP,
    SourceKind.FIXED_PERIOD,
    SourceKind.STAND_IN,
    SourceKind.CALENDAR,
)
"""The first of them among the sources of a segment is reported."""


@dataclass(frozen=True, slots=True)
class Names:
    """Display names of schedules and users. A user or schedule without one is named by its id."""

    schedules: Mapping[str, str] = field(default_factory=dict)
    users: Mapping[str, str] = field(default_factory=dict)

    def schedule(self, id: str) -> str:
        """At most 60 characters."""
        return _cut(self.schedules.get(id) or id, _LONGEST_NAME)

    def user(self, id: str) -> str:
        """At most 60 characters."""
        return _cut(self.users.get(id) or id, _LONGEST_NAME)


@dataclass(frozen=True, slots=True)
class OpenIncident:
    """One that is not resolved. `schedules`: those that its policy names."""

    title: str
    severity: int
    state: str
    create_time: datetime
    schedules: frozenset[str]

    @property
    def short_title(self) -> str:
        """One line of at most 80 characters."""
        return _cut(self.title, _LONGEST_TITLE)


def of_schedules(incidents: Sequence[OpenIncident], schedules: frozenset[str]) -> list[OpenIncident]:
    """The open incidents of these schedules, the most severe first, then the newest."""
    return sorted(
        (each for each in incidents if each.schedules & schedules),
        key=lambda each: (each.severity or 1, -each.create_time.timestamp()),
    )


@dataclass(frozen=True, slots=True)
class Loss:
    """The reason why a user lost time. `people`: who has it now. `deleted`: its schedule is not there any more."""

    people: Group = ()
    absent: bool = False
    deleted: bool = False


def why_gained(segment: Segment | None, user: str) -> SourceKind | None:
    """What gave the time to the user; None: the layers."""
    kinds = {source.kind for source in segment.sources if user in source.people} if segment else set()
    return next((kind for kind in _CAUSES if kind in kinds), None)


def why_lost(segment: Segment | None, user: str) -> tuple[Loss, SourceKind | None]:
    """Who has the time now, and what took it; None: the layers. `segment`: at the start of the lost time."""
    if segment is None:
        return Loss(deleted=True), None
    kinds = {source.kind for source in segment.sources} - {SourceKind.STAND_IN}
    return Loss(segment.people, absent=user in segment.away), next((kind for kind in _CAUSES if kind in kinds), None)


def _cut(text: str, length: int) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= length else flat[: length - 1] + "…"
