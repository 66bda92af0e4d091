"""Policies: who is paged, in which order, how fast."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum


class TargetKind(StrEnum):
    """What a target names."""

    USER = "user"
    TEAM = "team"


@dataclass(frozen=True, slots=True)
class Target:
    """Who is paged: one user, or every member of a team. `id` is the part behind `users/` or `teams/`."""

    kind: TargetKind
    id: str

    def __str__(self) -> str:
        return f"{self.kind}s/{self.id}"


@dataclass(frozen=True, slots=True)
class Level:
    """One step: its targets are paged at once, then there are `timeout` seconds to answer."""

    targets: tuple[Target, ...]
    timeout: timedelta


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy as an escalation keeps it: frozen when it starts, so that editing a policy changes nothing under way."""

    id: str
    levels: tuple[Level, ...]
    repeat_count: int = 0
    fallback_target: Target | None = None
    ack_timeout: timedelta | None = None
    team: str = ""
    status_updates: bool = True
    page_raised_urgency: bool = True

    def targets(self) -> tuple[Target, ...]:
        """Everybody the policy could ever page."""
        named = tuple(target for level in self.levels for target in level.targets)
        return (*named, self.fallback_target) if self.fallback_target else named


@dataclass(frozen=True, slots=True)
class Directory:
    """The people a decision may meet: users who can be paged, and the members of teams."""

    users: frozenset[str] = frozenset()
    teams: Mapping[str, tuple[str, ...]] | None = None

    def resolve(self, targets: Iterable[Target]) -> tuple[str, ...]:
        """The user ids behind targets, each once, in the order named; unknown and disabled users are left out."""
        found: dict[str, None] = {}
        for target in targets:
            members = (target.id,) if target.kind is TargetKind.USER else (self.teams or {}).get(target.id, ())
            found.update((user, None) for user in members if user in self.users)
        return tuple(found)
