"""Which notices of shifts a user is to get, and what they say."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from tocsin_escalation.domain.schedules.clock import time_of
from tocsin_escalation.domain.schedules.model import Schedule
from tocsin_escalation.domain.schedules.resolve import resolve
from tocsin_escalation.domain.shift_notice_texts import Names, OpenIncident, incidents_text, text_of
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
    assert text_of(NoticeKind.WEEK, week, Names(), "UTC", now).body.splitlines()[0] == "web: now to Tue 6 Jan 09:00"
    assert within_week(mine, utc("2026-01-08 12:00")) == [], "they are over"


def test_a_late_notice_says_that_the_shift_has_begun_and_a_later_one_is_skipped() -> None:
    mine = shifts(WEB, "ana", since="2026-01-06 00:00")
    [shift] = mine
    only_before = replace(EVERYTHING, hand_over=False)
    late = utc("2026-01-07 09:12")
    assert told(planned(only_before, mine, late)) == ["01-07 08:00 before"]
    assert told(planned(EVERYTHING, mine, late)) == ["01-07 09:00 hand_over"], "which says it already"
    assert text_of(NoticeKind.BEFORE, [shift], Names(), "UTC", late).title == (
        "Your shift began Wed 7 Jan 09:00, 12 minutes ago"
    )
    key = Key(NoticeKind.BEFORE, "web", utc("2026-01-07 09:00"))
    assert not too_late(key, utc("2026-01-07 09:59"))
    assert too_late(key, utc("2026-01-07 10:00"))
    assert planned(only_before, mine, utc("2026-01-07 10:01")) == []
    assert ends(key, utc("2026-01-07 08:00")) == shift.start, "it says that the shift is to begin"
    assert ends(key, late) == utc("2026-01-07 10:00")


def test_nobody_is_told_of_a_shift_that_had_begun_when_they_asked_for_notices() -> None:
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


def test_the_notices_say_what_a_tired_reader_needs() -> None:
    names = Names({"web": "Web"}, {"ben": "Ben", "carla": "Carla"})
    [shift] = shifts(WEB, "ana", since="2026-01-06 00:00")
    before = text_of(NoticeKind.BEFORE, [shift], names, "Europe/Berlin", utc("2026-01-07 08:00"))
    assert before.title == "Your shift begins Wed 7 Jan 10:00, in 1 hour"
    assert before.body == (
        "Web: Wed 7 Jan 10:00 to Thu 8 Jan 10:00; you take over from Ben\nTimes are those of Europe/Berlin."
    )
    hand_over = text_of(
        NoticeKind.HAND_OVER, [replace(shift, beside=("carla",))], names, "UTC", utc("2026-01-07 09:00")
    )
    assert hand_over.title == "You are on call now: Web"
    assert "you take over from Ben; with Carla" in hand_over.body
    week = text_of(NoticeKind.WEEK, [shift], names, "UTC", utc("2026-01-05 09:00"))
    assert week.title == "The coming week: 1 shift"
    nothing = text_of(NoticeKind.WEEK, [], names, "UTC", utc("2026-01-05 09:00"))
    assert (nothing.title, nothing.body) == (
        "The coming week: you are not on call",
        "No shift of yours begins by Mon 12 Jan 09:00.",
    )


def test_the_hand_over_lists_the_first_twenty_incidents_of_its_schedules_and_counts_the_others() -> None:
    at = datetime(2026, 1, 7, 7, 12, tzinfo=UTC)
    mine = [OpenIncident(f"db {number}", 3, "triggered", at, frozenset({"web"})) for number in range(23)]
    worst = OpenIncident("all down\nat once", 1, "acknowledged", at, frozenset({"web", "db"}))
    others = OpenIncident("not mine", 1, "triggered", at, frozenset({"db"}))
    lines = incidents_text([*mine, others, worst], frozenset({"web"}), "UTC", cut=False).splitlines()
    assert lines[:2] == ["24 incidents open:", "- all down at once (critical, acknowledged, since Wed 7 Jan 07:12)"]
    assert (len(lines), lines[-1]) == (22, "… and 4 more")
    assert incidents_text([others], frozenset({"web"}), "UTC", cut=False) == "No incident is open."
    assert incidents_text(mine, frozenset({"web"}), "UTC", cut=True).splitlines()[-1] == "… and at least 3 more"
