"""Escalation chains of Grafana OnCall as policies: what is notified before a wait is a level, and the wait is its timeout."""

from collections.abc import Mapping, Sequence
from typing import Final

from tocsin.escalation.v1 import policy_service_pb2 as pb
from tocsin.type.v1.target_pb2 import Target

from tocsin_client.imports.plan import Export, Ids, NotImported, People, Plan

_LAST_SECONDS: Final = 300
"""For an answer at the last level, which in OnCall has no end."""
_REPEATS: Final = 5
"""What OnCall's step to repeat does at most."""
_MOST_TARGETS: Final = 10
_MOST_LEVELS: Final = 20


def policy(
    chain: Export, ids: Ids, steps: Sequence[Export], schedules: Mapping[str, str], people: People, plan: Plan
) -> pb.CreatePolicyRequest:
    """`schedules`: names here of those that are taken, by their ids there. Raises NotImported for a step that has no place."""
    mine = [each for each in steps if each["escalation_chain_id"] == chain["id"]]
    mine.sort(key=lambda each: int(each["position"]))
    levels = _levels(mine, schedules, people)
    if not 1 <= len(levels) <= _MOST_LEVELS:
        raise NotImported(f"{len(levels)} levels; a policy has 1 to {_MOST_LEVELS}")
    if not levels[-1].HasField("timeout"):
        levels[-1].timeout.seconds = _LAST_SECONDS
        plan.notes.append(
            f"{chain['name']}: its last level has {_LAST_SECONDS} seconds for an answer; OnCall says no time"
        )
    if any(step.get("important") for step in mine):
        plan.notes.append(f"{chain['name']}: has important steps; here the severity says how urgent an incident is")
    made = pb.Policy(display_name=chain["name"][:255], levels=levels)
    if mine[-1]["type"] == "repeat_escalation":
        made.repeat_count = _REPEATS
    return pb.CreatePolicyRequest(policy_id=ids.of(chain["name"]), policy=made)


def _levels(steps: Sequence[Export], schedules: Mapping[str, str], people: People) -> list[pb.Level]:
    levels: list[pb.Level] = []
    for number, step in enumerate(steps, 1):
        if step["type"] == "wait":
            if not levels:
                raise NotImported(f"step {number} waits before anybody is notified")
            levels[-1].timeout.seconds += int(step["duration"])
        elif step["type"] == "repeat_escalation":
            if number < len(steps):
                raise NotImported(f"step {number} repeats the chain, and steps follow it")
        else:
            if not levels or levels[-1].HasField("timeout"):
                levels.append(pb.Level())
            _notify(levels[-1], step, number, schedules, people)
    return levels


def _notify(level: pb.Level, step: Export, number: int, schedules: Mapping[str, str], people: People) -> None:
    in_turn = step["type"] == "notify_person_next_each_time"
    if level.targets and (in_turn or level.mode == pb.LEVEL_MODE_IN_TURN):
        raise NotImported(f"step {number} notifies one in turn and others without a wait between them")
    level.mode = pb.LEVEL_MODE_IN_TURN if in_turn else pb.LEVEL_MODE_ALL
    for target in _targets(step, number, schedules, people):
        if target not in level.targets:
            level.targets.append(target)
    if not 1 <= len(level.targets) <= _MOST_TARGETS:
        raise NotImported(f"step {number}: {len(level.targets)} targets; a level has 1 to {_MOST_TARGETS}")


def _targets(step: Export, number: int, schedules: Mapping[str, str], people: People) -> list[Target]:
    match step["type"]:
        case "notify_persons":
            return [Target(user=people.user(each)) for each in step["persons_to_notify"]]
        case "notify_person_next_each_time":
            return [Target(user=people.user(each)) for each in step["persons_to_notify_next_each_time"]]
        case "notify_team_members":
            return [Target(user=each) for each in people.group("team", step["team_to_notify"])]
        case "notify_on_call_from_schedule":
            schedule = step["notify_on_call_from_schedule"]
            if schedule not in schedules:
                raise NotImported(f"step {number} notifies the schedule {schedule!r}, which is not among those taken")
            return [Target(schedule=schedules[schedule])]
        case kind:
            raise NotImported(f"step {number} is of type {kind!r}")
