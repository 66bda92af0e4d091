"""When each user of the levels of policies comes on call: one page of levels, whose schedules are read together."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from tocsin_kit.db.pool import Database, Tx

from tocsin_escalation.app.computing import compute
from tocsin_escalation.app.schedules import reading
from tocsin_escalation.domain import earliest
from tocsin_escalation.domain.conditions import ALWAYS, Condition
from tocsin_escalation.domain.earliest import Earliest
from tocsin_escalation.domain.policy import Directory, Policy, Target, TargetKind
from tocsin_escalation.domain.schedules.clock import minute_of
from tocsin_escalation.domain.schedules.questions import users_of
from tocsin_escalation.store.people import directory, policies

WORK_AT_ONCE: Final = 2_000_000
"""Of one page, in the unit of `domain.schedules.work`: about a second. A page ends early with the level that reaches it."""
_BEHIND: Final = 1 << 16
"""A place after all levels of a policy."""
_BACK: Final = timedelta(minutes=earliest.BACK)
_AHEAD: Final = timedelta(minutes=earliest.AHEAD[-1])


@dataclass(frozen=True, slots=True)
class EarliestFilter:
    """Which policies are asked for; empty: all. With `schedules`, only users who are on call through one of these."""

    policies: Collection[str] = ()
    schedules: Collection[str] = ()
    users: Collection[str] = ()


@dataclass(frozen=True, slots=True)
class LevelOnCall:
    """Who is on call at a level, by time. `level` counts from 1, and is 0 for the fallback target."""

    policy: str
    level: int
    users: tuple[Earliest, ...]


@dataclass(frozen=True, slots=True)
class _Step:
    """`place` counts the levels of a policy from 0; the fallback target is after the last one."""

    policy: str
    place: int
    level: int
    targets: tuple[Target, ...]
    condition: Condition


async def of_levels(
    db: Database, org_id: str, asked: EarliestFilter, at: datetime | None, after: tuple[str, int], limit: int
) -> tuple[list[LevelOnCall], tuple[str, int] | None]:
    """Levels from (policy id, place) on, as of an instant or now, and where the next page begins; None at the end."""
    async with db.transaction(org_id) as tx:
        steps = await _steps(tx, asked, after, limit + 1)
        time = at or await tx.now()
        named = list(dict.fromkeys(target for step in steps[:limit] for target in step.targets))
        keys = [(org_id, target.id) for target in named if target.kind is TargetKind.SCHEDULE]
        begun = await reading.begin(tx, keys, time - _BACK, time + _AHEAD)
    schedules = {id: schedule for (_, id), schedule in (await begun.finish(db, org_id)).items()}
    named += [Target(TargetKind.USER, user) for each in schedules.values() for user in set(users_of(each))]
    async with db.transaction(org_id) as tx:
        people = (await directory.load_people(tx, [(org_id, target) for target in named])).get(org_id, Directory())
    minute = minute_of(time)

    def look() -> list[LevelOnCall]:
        spent, found = earliest.SpentWork(), list[LevelOnCall]()
        for step in steps[:limit]:
            users = earliest.of_level(step.targets, step.condition, people, schedules, minute, asked.users, spent)
            found.append(LevelOnCall(step.policy, step.level, tuple(users)))
            if spent.work >= WORK_AT_ONCE:
                break
        return found

    # In a thread: resolving months of many schedules takes longer than other calls may wait.
    found = await compute(org_id, look)
    following = steps[len(found)] if len(found) < len(steps) else None
    return found, (following.policy, following.place) if following else None


async def _steps(tx: Tx, asked: EarliestFilter, after: tuple[str, int], limit: int) -> list[_Step]:
    """In the order of policies and levels."""
    id, place = after
    steps: list[_Step] = []
    while len(steps) < limit:
        # The policy of the cursor may have more levels than fitted into the last page.
        ids = await policies.ids(tx, id, limit, list(asked.policies) or None)
        found = await policies.usable(tx, {(tx.org_id, each) for each in (id, *ids)}, set())
        for each in (id, *ids):
            if (tx.org_id, each) in found:
                levels = _of_policy(found[tx.org_id, each], asked.schedules)
                steps += levels[place:] if each == id else levels
        if len(ids) < limit:
            break
        # Only when some cannot be read: each policy has a level.
        id, place = ids[-1], _BEHIND
    return steps[:limit]


def _of_policy(policy: Policy, schedules: Collection[str]) -> list[_Step]:
    named = [(number, level.targets, level.condition) for number, level in enumerate(policy.levels, 1)]
    if policy.fallback_target:
        named.append((0, (policy.fallback_target,), ALWAYS))
    return [
        _Step(policy.id, place, level, tuple(t for t in targets if not schedules or _is_one(t, schedules)), condition)
        for place, (level, targets, condition) in enumerate(named)
    ]


def _is_one(target: Target, schedules: Collection[str]) -> bool:
    return target.kind is TargetKind.SCHEDULE and target.id in schedules
