"""Which notices of shifts a user is to get, and what they tell."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from tocsin.notify.v1 import shift_pb2 as pb
from tocsin_escalation.app.notices.shift_contents import Open, Reader, of_shifts
from tocsin_escalation.domain.schedules.clock import time_of
from tocsin_escalation.domain.schedules.model import Schedule
from tocsin_escalation.domain.schedules.resolve import resolve
from tocsin_escalation.domain.shift_details import Names, OpenIncident, of_schedules
from tocsin_escalation.domain.shift_notices import (
    Choice,
    Key,
    Notice,
    NoticeKind,
    Shift,
    ends,
    planned,
    shifts_in,
    too_late,
    week_minutes,
    within_week,
)

from tests.unit.escalation.schedules.writing import DAILY, MON, SUN, layer, override, utc

EVERYTHING = Choice("UTC", 60, True, None, utc("2026-01-01 00:00"))
WEB = Schedule("web", "UTC", (layer("ana", "ben", turn=DAILY),))


def all_shifts(schedule: Schedule, user: str, since: str, until: str = "2026-01-09 00:00") -> list[Shift]:
    found = shifts_in(schedule.id, resolve(schedule, utc(since), utc(until)))
    return [shift for shift in found if shift.user == user]


def shifts(
    schedule: Schedule, user: str, since: str = "2026-01-05 00:00", until: str = "2026-01-09 00:00"
) -> list[Shift]:
    """Those that begin meanwhile."""
    return [shift for shift in all_shifts(schedule, user, since, until) if shift.start is not None]


def told(notices: list[Notice]) -> list[str]:
    return [f"{time_of(each.due):%m-%d %H:%M} {each.key.kind}" for each in notices]


def test_ana_is_told_an_hour_before_her_shift_and_when_it_begins() -> None:
    mine = shifts(WEB, "ana", since="2026-01-06 00:00")
    assert told(planned(EVERYTHING, mine, utc("2026-01-06 09:30"))) == ["01-07 08:00 before", "01-07 09:00 hand_over"]
    assert told(planned(EVERYTHING, mine, utc("2026-01-06 07:59"))) == [], "it is more than a day ahead"
    assert [shift.hands_over for shift in mine] == [("ben",)]


def test_an_override_takes_her_shift_and_makes_it_his() -> None:
    moved = replace(WEB, overrides=(override("2026-01-07 09:00", "2026-01-08 09:00", "ben"),))
    now = utc("2026-01-07 08:30")
    assert shifts(moved, "ana", since="2026-01-06 00:00", until="2026-01-09 00:00") == []
    assert told(planned(EVERYTHING, shifts(moved, "ben", since="2026-01-06 09:30"), now)) == [], "his shift goes on"
    to_carla = replace(WEB, overrides=(override("2026-01-07 09:00", "2026-01-08 09:00", "carla"),))
    assert told(planned(EVERYTHING, shifts(to_carla, "carla"), now)) == ["01-07 08:00 before", "01-07 09:00 hand_over"]


def test_a_shift_that_was_under_way_already_brings_no_notice_but_stands_in_the_week_ahead() -> None:
    mine = all_shifts(WEB, "ana", "2026-01-05 12:00")
    now = utc("2026-01-05 12:30")
    assert told(planned(EVERYTHING, mine[:1], now)) == []
    week = within_week(mine, now)
    assert [shift.start for shift in week] == [None, utc("2026-01-07 09:00")]
    under_way, later = of_shifts(NoticeKind.WEEK, week, Names(), Reader("UTC", now)).stretches
    assert (under_way.HasField("start_time"), later.HasField("start_time")) == (False, True)
    assert under_way.end_time.ToDatetime(UTC) == time_of(utc("2026-01-06 09:00"))
    assert within_week(mine, utc("2026-01-08 12:00")) == [], "they are over"


def test_a_late_notice_says_that_the_shift_has_begun_and_a_later_one_is_skipped() -> None:
    mine = shifts(WEB, "ana", since="2026-01-06 00:00")
    only_before = replace(EVERYTHING, hand_over=False)
    late = utc("2026-01-07 09:12")
    assert told(planned(only_before, mine, late)) == ["01-07 08:00 before"]
    assert told(planned(EVERYTHING, mine, late)) == ["01-07 09:00 hand_over"], "which says it already"
    key = Key(NoticeKind.BEFORE, "web", utc("2026-01-07 09:00"))
    assert not too_late(key, utc("2026-01-07 09:59"))
    assert too_late(key, utc("2026-01-07 10:00"))
    assert planned(only_before, mine, utc("2026-01-07 10:01")) == []
    assert ends(key, utc("2026-01-07 08:00")) == mine[0].start, "it says that the shift is to begin"
    assert ends(key, late) == utc("2026-01-07 10:00")


def test_no_user_is_told_of_a_shift_that_had_begun_when_they_asked_for_notices() -> None:
    mine = shifts(WEB, "ana", since="2026-01-06 00:00")
    assert planned(replace(EVERYTHING, since=utc("2026-01-07 09:01")), mine, utc("2026-01-07 09:02")) == []
    assert len(planned(replace(EVERYTHING, since=utc("2026-01-07 08:50")), mine, utc("2026-01-07 08:51"))) == 2


def test_what_was_told_is_not_told_again() -> None:
    mine = shifts(WEB, "ana", since="2026-01-06 00:00")
    now = utc("2026-01-07 08:30")
    before, hand_over = planned(EVERYTHING, mine, now)
    assert planned(EVERYTHING, mine, now, {before.key}) == [hand_over]


@pytest.mark.parametrize(
    ("now", "due"),
    [
        (
            "2026-03-28 12:00",
            "2026-03-29 01:00",
        ),  # 02:30 is skipped that day: the first moment after it, 03:00 in summer
        ("2026-10-24 12:00", "2026-10-25 00:30"),  # 02:30 comes twice that day: the first time
        ("2026-01-10 12:00", "2026-01-11 01:30"),
    ],
)
def test_the_week_ahead_comes_once_at_the_hour_of_the_users_wall(now: str, due: str) -> None:
    choice = Choice("Europe/Berlin", None, False, week_minutes(SUN, 2, 30), utc("2026-01-01 00:00"))
    [notice] = planned(choice, [], utc(now))
    assert time_of(notice.due) == time_of(utc(due))
    assert planned(choice, [], notice.due + 5, {notice.key}) == []
    moved = replace(choice, zone="America/New_York")
    assert planned(moved, [], notice.due + 5, {notice.key}) == [], (
        "a move to another zone brings no second one that day"
    )


def test_the_week_ahead_is_caught_up_on_for_a_day() -> None:
    choice = Choice("UTC", None, False, week_minutes(MON, 9, 0), utc("2026-01-01 00:00"))
    assert told(planned(choice, [], utc("2026-01-06 08:59"))) == ["01-05 09:00 week"]
    assert planned(choice, [], utc("2026-01-06 09:00")) == []


def test_a_notice_names_the_shift_and_who_is_beside_it() -> None:
    names = Names({"web": "Web"}, {"ben": "Ben\nB.", "carla": "Carla"})
    [shift] = shifts(WEB, "ana", since="2026-01-06 00:00")
    reader = Reader("Europe/Berlin", utc("2026-01-07 08:00"))
    told = of_shifts(NoticeKind.BEFORE, [replace(shift, beside=("carla",) * 7)], names, reader)
    [stretch] = told.stretches
    assert (told.notice, told.time_zone, list(told.schedules)) == (pb.SHIFT_NOTICE_BEFORE, "Europe/Berlin", ["Web"])
    assert told.make_time.ToDatetime(UTC) == time_of(reader.now)
    assert (stretch.schedule, stretch.start_time.ToDatetime(UTC)) == ("Web", time_of(utc("2026-01-07 09:00")))
    assert list(stretch.hands_over.names) == ["Ben B."], "on one line"
    assert (list(stretch.beside.names), stretch.beside.more) == (["Carla"] * 5, 2)
    many = of_shifts(NoticeKind.WEEK, [shift] * 25, names, reader)
    assert (len(many.stretches), many.more_stretches) == (20, 5)
    assert (list(many.schedules), many.more_schedules) == (["Web"] * 3, 22)


def test_the_hand_over_lists_the_first_twenty_incidents_of_its_schedules_and_counts_the_others() -> None:
    at = datetime(2026, 1, 7, 7, 12, tzinfo=UTC)
    mine = [OpenIncident(f"db {number}", 3, "triggered", at, frozenset({"web"})) for number in range(23)]
    worst = OpenIncident("all down\nat once", 1, "acknowledged", at, frozenset({"web", "db"}))
    others = OpenIncident("not mine", 1, "triggered", at, frozenset({"db"}))
    web = frozenset({"web"})
    opened = Open(of_schedules([*mine, others, worst], web), cut=True)
    told = of_shifts(NoticeKind.HAND_OVER, [], Names(), Reader("UTC", 0), opened)
    first = told.incidents[0]
    assert (first.title, first.severity, first.state) == ("all down at once", 1, "acknowledged")
    assert first.create_time.ToDatetime(UTC) == at
    assert (len(told.incidents), told.more_incidents, told.incidents_incomplete) == (20, 4, True)
    assert of_schedules([others], web) == []
