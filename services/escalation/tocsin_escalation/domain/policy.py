"""Policies: who is paged, in which order, and how fast."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from tocsin_escalation.domain.conditions import ALWAYS, Condition
from tocsin_escalation.domain.urgencies import UrgencyRule
from tocsin_escalation.domain.words import Word


class TargetKind(Word):
    """The kind of a target."""

    USER = "user"
    TEAM = "team"
    SCHEDULE = "schedule"


@dataclass(frozen=True, slots=True)
class Target:
    """One user, all members of a team, or the users who are on call in a schedule.

    `id` is the part behind `users/`, `teams/` or `schedules/`.
    """

    kind: TargetKind
    id: str

    def __str__(self) -> str:
        return f"{self.kind}s/{self.id}"


class GapChoice(Word):
    """What a level does when it has no user because of a gap in a schedule. The words are kept in policies."""

    SKIP = "skip"
    HOLD = "hold"
    FALLBACK = "fallback"


@dataclass(frozen=True, slots=True)
class Level:
    """One step: its targets are paged, then there is `timeout` to answer.

    `in_turn`: one person of them is paged, and the next one if that person does not answer. `turn_timeout`: how long each has to
    answer; None for as long as the level lasts. `condition`: which incidents it is for, and when. `repeats`: how many more times
    all are paged within the time to answer, once every `repeat_interval`.
    """

    targets: tuple[Target, ...]
    timeout: timedelta
    in_turn: bool = False
    turn_timeout: timedelta | None = None
    condition: Condition = ALWAYS
    repeats: int = 0
    repeat_interval: timedelta | None = None

    @property
    def part(self) -> timedelta | None:
        """The length of a part of the level's time: a person's turn, or the time until all are paged again; None without parts."""
        return self.turn_timeout if self.in_turn else self.repeat_interval


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy as an escalation keeps it: frozen when it starts, so that editing a policy changes no running escalation."""

    id: str
    levels: tuple[Level, ...]
    repeat_count: int = 0
    fallback_target: Target | None = None
    ack_timeout: timedelta | None = None
    team: str = ""
    status_updates: bool = True
    page_raised_urgency: bool = True
    on_gap: GapChoice = GapChoice.SKIP
    next_policy: str = ""
    unresolved_after: timedelta | None = None
    unresolved_target: Target | None = None
    """Who is reminded if the incident is not resolved this long after it opened. Both are set, or neither."""
    urgency_rules: tuple[UrgencyRule, ...] = ()

    @property
    def has_turns(self) -> bool:
        """Whether any level pages one person after the other."""
        return any(level.in_turn for level in self.levels)

    def targets(self) -> tuple[Target, ...]:
        """All targets that the policy could ever page."""
        return (*self.targets_from(0), *self.targets_before(0))

    def targets_from(self, level: int) -> tuple[Target, ...]:
        """Those of the level (0 means 1) and of the levels after it."""
        named = tuple(target for each in self.levels[max(level - 1, 0) :] for target in each.targets)
        return (*named, self.fallback_target) if self.fallback_target else named

    def targets_before(self, level: int) -> tuple[Target, ...]:
        """Those of the levels before this one, which are paged again when the policy is repeated."""
        return tuple(target for each in self.levels[: max(level - 1, 0)] for target in each.targets)

    def schedules(self) -> tuple[str, ...]:
        """The ids of the schedules among them, each once."""
        return tuple(dict.fromkeys(target.id for target in self.targets() if target.kind is TargetKind.SCHEDULE))


@dataclass(frozen=True, slots=True)
class OnCall:
    """Who is on call in a schedule at this moment, with the reason and the end in words.

    `gap`: no user is, and that is not on purpose. `comes_on`: when the next user begins, None when none does within the time that
    `standing` looks ahead; `next_users` are these users.
    """

    users: tuple[str, ...]
    why: str
    gap: bool = False
    comes_on: datetime | None = None
    next_users: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Directory:
    """The people that a decision may need: users who can be paged, the members of teams, who is on call in schedules.

    `turns`: by policy, the users who have had a turn, the one of longest ago first. `away`: those who are absent. Both are loaded
    only for policies that page one person after the other, and only their levels use them. `policies`: those to which a run may
    be handed on. `zones`: the time zones that users have chosen.
    """

    users: frozenset[str] = frozenset()
    teams: Mapping[str, tuple[str, ...]] | None = None
    schedules: Mapping[str, OnCall] | None = None
    turns: Mapping[str, tuple[str, ...]] | None = None
    away: frozenset[str] = frozenset()
    policies: Mapping[str, Policy] | None = None
    zones: Mapping[str, str] = field(default_factory=dict)

    def resolve(self, targets: Iterable[Target]) -> tuple[str, ...]:
        """The user ids behind targets, each once, in the order named; unknown and disabled users are left out."""
        found: dict[str, None] = {}
        for target in targets:
            found.update((user, None) for user in self._members(target) if user in self.users)
        return tuple(found)

    def next_policy_of(self, policy: Policy) -> Policy | None:
        """The policy to which a run is handed on when no person answers; None when there is none."""
        return (self.policies or {}).get(policy.next_policy) if policy.next_policy else None

    def why(self, targets: Iterable[Target]) -> str:
        """Why these people are on call, for the timeline; empty without schedules."""
        named = [target for target in targets if target.kind is TargetKind.SCHEDULE]
        return "; ".join(
            found.why if (found := (self.schedules or {}).get(target.id)) else f"{target} does not exist"
            for target in named
        )

    def gaps(self, targets: Iterable[Target]) -> list[OnCall]:
        """Those of the schedules among the targets that have a gap in this moment."""
        found = ((self.schedules or {}).get(t.id) for t in targets if t.kind is TargetKind.SCHEDULE)
        return [each for each in found if each is not None and each.gap]

    def _members(self, target: Target) -> tuple[str, ...]:
        schedule = (self.schedules or {}).get(target.id)
        members = {
            TargetKind.USER: (target.id,),
            TargetKind.TEAM: (self.teams or {}).get(target.id, ()),
            TargetKind.SCHEDULE: schedule.users if schedule else (),
        }
        return members.get(target.kind, ())  # of a kind that only a newer version knows: no users
