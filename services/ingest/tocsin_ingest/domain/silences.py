"""Which silences match an alert, and whether one of them is in force.

These are separate because they need different data: matching needs an alert's labels, which are available where it is routed; the
second needs the database's clock, which is known in the transaction that stores the alert.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from tocsin_ingest.domain.routing import Matcher, Subject


@dataclass(frozen=True, slots=True)
class Matched:
    """A silence that matches an alert, in the version that was asked."""

    id: UUID
    version: int


@dataclass(frozen=True, slots=True)
class Silence:
    """What tells whether an alert is matched. `integration_id` is empty when it may have come through any."""

    matched: Matched
    integration_id: str
    matchers: tuple[Matcher, ...]


@dataclass(frozen=True, slots=True)
class Window:
    """When a silence is in force, in which version: from `start` on, and not at `end` any more."""

    version: int
    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class Hold:
    """The silence that holds an alert back, and when the alert is decided again. `labels`: see `Message.labels`."""

    silence_id: UUID
    until: datetime
    labels: bytes | None = None


def matching(silences: Sequence[Silence], integration_id: str, subject: Subject) -> tuple[Matched, ...] | None:
    """The silences that match, whether or not they are in force.

    None when their regular expressions take too many steps for this alert: it is not silenced then.
    """
    found = []
    for silence in silences:
        if silence.integration_id and silence.integration_id != integration_id:
            continue
        met = subject.meets(silence.matchers)
        if met is None:
            return None
        if met:
            found.append(silence.matched)
    return tuple(found)


def hold(matched: Sequence[Matched], windows: Mapping[UUID, Window], now: datetime) -> Hold | None:
    """The silence that holds back an alert that these silences match; of several in force the one that ends last.

    `windows`: as the database holds them now. A silence that has changed since the match may not match any more, so the alert is
    decided again at once.
    """
    found: Hold | None = None
    for each in matched:
        window = windows.get(each.id)
        if window is None or not window.start <= now < window.end:
            continue
        until = window.end if window.version == each.version else now
        if found is None or until > found.until:
            found = Hold(each.id, until)
    return found
