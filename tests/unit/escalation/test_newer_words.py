"""Words that a newer version wrote, read after a rollback to this one: shown, paged as far as they are understood, and a problem
for no other row."""

import dataclasses
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from tocsin_escalation.app.schedules import schedules as app_schedules
from tocsin_escalation.domain.conditions import Condition
from tocsin_escalation.domain.escalation import Escalation, State, TimerKind
from tocsin_escalation.domain.events import Resolved
from tocsin_escalation.domain.policy import GapChoice, Level, Target, TargetKind
from tocsin_escalation.domain.schedules.clock import DAY, minute_of
from tocsin_escalation.domain.schedules.model import Layer, Mode, Schedule, Turn, Unit, Window
from tocsin_escalation.domain.schedules.resolve import resolve
from tocsin_escalation.domain.words import Word
from tocsin_escalation.rpc import mapping, planned_mapping, reminder_service, shift_notice_service, swap_mapping
from tocsin_escalation.store.incidents.timeline import Entry
from tocsin_escalation.store.notices.reminders import ReminderRow
from tocsin_escalation.store.notices.shift_notices import NoticeRow
from tocsin_escalation.store.people import policies
from tocsin_escalation.store.people.policies import PolicyRow
from tocsin_escalation.store.schedules import schedules
from tocsin_escalation.store.schedules.overrides import OverrideRow
from tocsin_escalation.store.schedules.schedules import ScheduleRow
from tocsin_escalation.store.schedules.swaps import SwapRow

from tests.store.made_up import Maker
from tests.unit.escalation.people import NOON, Story, level, policy, schedule, team, user

_NEWER = "groups/night"


def newer(row: Any) -> Any:
    """The row with another word in each field of words, and in those of the rows in it."""
    changes: dict[str, Any] = {}
    for field in dataclasses.fields(row):
        value = getattr(row, field.name)
        if isinstance(value, Word):
            changes[field.name] = type(value)(_NEWER)
        elif isinstance(value, str) and field.name in ("kind", "state"):
            changes[field.name] = _NEWER
        elif dataclasses.is_dataclass(value):
            changes[field.name] = newer(value)
        elif isinstance(value, tuple):
            changes[field.name] = tuple(newer(each) if dataclasses.is_dataclass(each) else each for each in value)
    return replace(row, **changes)


SHOWN: dict[type, Callable[[Any], Any]] = {
    Escalation: mapping.incident,
    Entry: mapping.timeline_entry,
    PolicyRow: mapping.policy_to,
    ReminderRow: reminder_service.reminder_to,
    OverrideRow: planned_mapping.override_to,
    SwapRow: lambda row: swap_mapping.swap_to(row, NOON),
    NoticeRow: shift_notice_service._notice_to,
}


@pytest.mark.parametrize("kind", SHOWN)
def test_a_row_of_a_newer_version_is_shown(kind: type) -> None:
    assert SHOWN[kind](newer(Maker(0).value(kind))).ByteSize()


RICH = replace(
    policy(
        level(user("ana"), team("core"), schedule("night")),
        Level((user("ben"),), timedelta(minutes=5), True, timedelta(minutes=1), Condition((1, 2), (), "Europe/Berlin")),
        fallback_target=user("dora"),
        ack_timeout=timedelta(hours=1),
        on_gap=GapChoice.HOLD,
    ),
    next_policy="day",
)
LAYERS = (
    Layer("one", (Turn(Unit.WEEK, 1),), 0, (("ana",), ("ben",)), "Europe/Berlin", windows=(Window(frozenset({0}), 0),)),
    Layer("two", (Turn(Unit.DAY, 1), Turn(Unit.HOUR, 3)), 0, (("cem",),), "UTC", mode=Mode.ADD),
)


def changed(data: Any) -> Iterator[Any]:
    """The JSON value, each time with one text in it replaced, or with one key more."""
    if isinstance(data, str):
        yield _NEWER
    elif isinstance(data, list):
        for at, each in enumerate(data):
            yield from ([*data[:at], other, *data[at + 1 :]] for other in changed(each))
    elif isinstance(data, dict):
        yield data | {_NEWER: 1}
        for key, each in data.items():
            yield from (data | {key: other} for other in changed(each))


def without_key(data: Any) -> Any:
    """Without what no version before could keep."""
    if isinstance(data, dict):
        return {key: without_key(each) for key, each in data.items() if key != _NEWER}
    return [without_key(each) for each in data] if isinstance(data, list) else data


def test_a_policy_of_a_newer_version_is_read_and_loses_nothing() -> None:
    for data in changed(json.loads(policies.to_json(RICH))):
        read = policies.from_json(json.dumps(data))
        assert json.loads(policies.to_json(read)) == without_key(data)
        assert mapping.policy_to(PolicyRow(read, "", False, 1, NOON, NOON)).levels


def test_a_schedule_of_a_newer_version_goes_on_with_the_layers_that_are_understood() -> None:
    minute = minute_of(NOON)
    for data in changed(json.loads(schedules.layers_to_json(LAYERS))):
        layers = schedules.layers_from_json(json.dumps(data))
        assert layers
        assert resolve(Schedule("web", _NEWER, layers), minute, minute + 1)


def test_a_layer_in_a_time_zone_that_is_not_known_goes_by_utc() -> None:
    """Zone data gave up US/Pacific-New, and replicas of two versions know different ones."""
    week = Layer("one", (Turn(Unit.DAY, 1),), 0, (("ana",), ("ben",)), _NEWER, windows=(Window(frozenset({0}), 60),))
    spans = [
        [(each.start, each.end, each.people) for each in resolve(Schedule("web", zone, (layer,)), 0, 14 * DAY)]
        for zone, layer in ((_NEWER, week), ("UTC", replace(week, zone="UTC")))
    ]
    assert spans[0] == spans[1]
    assert any(people for _, _, people in spans[0])
    row = ScheduleRow("web", "Web", "", "Europe/Berlin", False, (week,))
    assert app_schedules.warnings(row) == [
        f"time_zone: '{_NEWER}' is no IANA time zone; write for example Europe/Berlin; UTC counts instead"
    ]


def test_a_target_that_is_not_known_pages_no_user_and_the_others_are_paged() -> None:
    story = Story(policy(level(Target(TargetKind(_NEWER), "core"), user("ana")), level(user("ben"))))
    assert story.paged() == [(1, "ana")]


def test_a_timer_that_is_not_known_pages_the_next_level() -> None:
    story = Story()
    assert story.run.timer is not None
    story.run = replace(story.run, timer=replace(story.run.timer, kind=TimerKind(_NEWER)))
    story.passes(5)
    story.timer_fires()
    assert story.paged() == [(2, "ben"), (2, "cem")]


def test_an_incident_in_a_state_that_is_not_known_can_be_resolved() -> None:
    story = Story()
    story.run = replace(story.run, state=State(_NEWER))
    story.take(Resolved("users/ana"))
    assert story.run.state is State.RESOLVED
