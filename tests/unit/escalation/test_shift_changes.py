"""What is told of changes of shifts, and what is not."""

from dataclasses import replace

from tocsin_escalation.domain.schedules.clock import time_of
from tocsin_escalation.domain.schedules.model import Schedule, Scope, Segment
from tocsin_escalation.domain.schedules.resolve import resolve
from tocsin_escalation.domain.shift_change_texts import answer_text, change_text, offer_text
from tocsin_escalation.domain.shift_changes import LOOKED_AT, MOST, Change, Known, Stretch, Verdict, judge, present
from tocsin_escalation.domain.shift_notice_texts import Names
from tocsin_escalation.domain.shift_notices import shifts_in

from tests.unit.escalation.schedules.writing import DAILY, layer, override, utc

WEB = Schedule("web", "UTC", (layer("ana", "ben", turn=DAILY),))
NOW = utc("2026-01-05 00:00")
NAMES = Names({"web": "Web"}, {"ana": "Ana", "ben": "Ben", "carla": "Carla"})


def says(schedule: Schedule, user: str, now: int = NOW) -> Known:
    found = shifts_in(schedule.id, resolve(schedule, now, now + LOOKED_AT))
    return present([shift for shift in found if shift.user == user], now, now + LOOKED_AT)


def changed(schedule: Schedule, user: str, before: Schedule = WEB) -> Change:
    """What is told once the change has lasted."""
    known, said = says(before, user), says(schedule, user)
    noted = judge(known, said, NOW)
    assert noted == Verdict(replace(known, changed=NOW)), "it may be taken back"
    assert judge(noted.known, said, NOW + 1) == Verdict()
    verdict = judge(noted.known, says(schedule, user, NOW + 2), NOW + 2)
    assert verdict.told is not None
    assert verdict.known == says(schedule, user, NOW + 2)
    return verdict.told


def words(change: Change, user: str, schedule: Schedule) -> list[str]:
    def at(_: str, minute: int) -> Segment | None:
        return resolve(schedule, minute, minute + 1)[0]

    return change_text(change, user, at, NAMES, "UTC").body.splitlines()


def test_an_override_takes_ben_his_shift_and_gives_it_to_carla() -> None:
    moved = replace(WEB, overrides=(override("2026-01-06 09:00", "2026-01-06 17:00", "carla"),))
    assert words(changed(moved, "ben"), "ben", moved) == [
        "No longer yours: Web, Tue 6 Jan 09:00 to Tue 6 Jan 17:00; on call is Carla (an override)",
        "Times are those of UTC.",
    ]
    assert words(changed(moved, "carla"), "carla", moved) == [
        "Now yours: Web, Tue 6 Jan 09:00 to Tue 6 Jan 17:00 (an override)",
        "Times are those of UTC.",
    ]


def test_ana_is_told_that_she_is_away_and_who_stands_in() -> None:
    away = replace(WEB, stand_in=True, absences={"ana": ((utc("2026-01-07 00:00"), utc("2026-01-08 00:00")),)})
    told = changed(away, "ana")
    assert words(told, "ana", away)[0] == (
        "No longer yours: Web, Wed 7 Jan 09:00 to Thu 8 Jan 00:00; you are away, and on call is Ben"
    )
    assert words(changed(away, "ben"), "ben", away)[0].endswith("(standing in for a user who is away)")


def test_a_new_line_up_and_a_deleted_schedule_are_changes() -> None:
    alone = replace(WEB, layers=(layer("ana", turn=DAILY),))
    told = changed(alone, "ben")
    assert told.gained == ()
    assert len(told.lost) == 14
    listed = change_text(told, "ben", lambda *_: None, NAMES, "UTC")
    assert listed.title == "Your shifts have changed: Web"
    assert "; the schedule is deleted" in listed.body
    nobody = replace(WEB, overrides=(override("2026-01-06 09:00", "2026-01-06 17:00", "-"),))
    assert words(changed(nobody, "ben"), "ben", nobody)[0].endswith("; nobody is on call (an override)")


def test_time_that_comes_into_sight_is_no_change_and_neither_is_time_that_passes() -> None:
    later = utc("2026-01-08 12:00")
    verdict = judge(says(WEB, "ana"), says(WEB, "ana", later), later)
    assert verdict == Verdict(says(WEB, "ana", later)), "what is known grows silently"
    assert judge(says(WEB, "ana"), says(WEB, "ana", NOW + 60), NOW + 60) == Verdict(), "and not at every look"
    assert judge(None, says(WEB, "ana"), NOW).told is None, "who has just asked for messages knows the present"


def test_a_change_that_is_taken_back_at_once_is_not_told() -> None:
    moved = replace(WEB, overrides=(override("2026-01-06 09:00", "2026-01-06 17:00", "carla"),))
    noted = judge(says(WEB, "ben"), says(moved, "ben"), NOW).known
    assert judge(noted, says(WEB, "ben", NOW + 5), NOW + 5) == Verdict(says(WEB, "ben", NOW + 5))


def test_a_person_whose_hours_are_moved_is_told_of_the_hours_alone() -> None:
    moved = replace(WEB, overrides=(override("2026-01-05 20:00", "2026-01-06 12:00", "ben", scope=Scope.SCHEDULE),))
    assert changed(moved, "ben") == Change((Stretch("web", utc("2026-01-05 20:00"), utc("2026-01-06 09:00")),))


def test_a_schedule_that_was_not_looked_at_is_not_lost() -> None:
    known = Known(NOW + LOOKED_AT, (Stretch("db", NOW - 60, NOW + 60), Stretch("old", NOW - 60, NOW)), changed=NOW - 9)
    verdict = judge(known, Known(NOW + LOOKED_AT, ()), NOW, {"db", "old"})
    assert verdict == Verdict(Known(NOW + LOOKED_AT, (Stretch("db", NOW, NOW + 60),)))


def test_what_is_known_of_a_user_has_an_end() -> None:
    every_hour = replace(WEB, layers=(layer(*(("ana", "ben") * 10), turn=DAILY, concurrent=1),))
    found = [shift for shift in shifts_in("web", resolve(every_hour, NOW, NOW + LOOKED_AT)) if shift.user == "ana"]
    many = [replace(shift, schedule=f"s{number:03}") for number in range(200) for shift in found]
    known = present(many, NOW, NOW + LOOKED_AT)
    assert len(known.stretches) == MOST
    assert max(each.end for each in known.stretches) <= known.until < NOW + LOOKED_AT


def test_what_a_swap_says() -> None:
    offered = Stretch("Web", utc("2026-01-05 09:00"), utc("2026-01-05 17:00"))
    back = Stretch("Web", utc("2026-01-06 09:00"), utc("2026-01-06 17:00"))
    text = offer_text("Ana", offered, back, "a wedding", "swaps/1", "Europe/Berlin")
    assert text.title == "Ana offers you time on call: Web"
    assert text.body.splitlines() == [
        "Mon 5 Jan 10:00 to Mon 5 Jan 18:00",
        "In return for your time on call: Tue 6 Jan 10:00 to Tue 6 Jan 18:00",
        "Reason: a wedding",
        "Accept or decline it as swaps/1.",
        "Times are those of Europe/Berlin.",
    ]
    assert answer_text(["Ben"], offered, "UTC", accepted=True).title == "Ben takes your time on call: Web"
    declined = answer_text(["Ben", "Carla"], offered, "UTC", accepted=False)
    assert declined.title == "Nobody takes your time on call; declined by Ben, Carla: Web"
    assert time_of(offered.start).hour == 9
