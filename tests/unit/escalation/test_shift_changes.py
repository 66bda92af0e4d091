"""What is told of changes of shifts, and what is not."""

from dataclasses import replace
from datetime import UTC

from tocsin.notify.v1 import shift_pb2 as pb
from tocsin_escalation.app.notices.shift_contents import Offer, Reader, of_answer, of_change, of_offer
from tocsin_escalation.domain.schedules.model import Schedule, Scope, Segment
from tocsin_escalation.domain.schedules.resolve import resolve
from tocsin_escalation.domain.shift_changes import (
    LOOKED_AT,
    MOST,
    Change,
    KnownShifts,
    ShiftTime,
    Verdict,
    judge,
    present,
)
from tocsin_escalation.domain.shift_details import Names
from tocsin_escalation.domain.shift_notices import shifts_in

from tests.unit.escalation.schedules.writing import DAILY, layer, override, utc

WEB = Schedule("web", "UTC", (layer("ana", "ben", turn=DAILY),))
NOW = utc("2026-01-05 00:00")
NAMES = Names({"web": "Web"}, {"ana": "Ana", "ben": "Ben", "carla": "Carla"})


def says(schedule: Schedule, user: str, now: int = NOW) -> KnownShifts:
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


def told_to(user: str, change: Change, schedule: Schedule | None) -> list[pb.ShiftStretch]:
    def at(_: str, minute: int) -> Segment | None:
        return resolve(schedule, minute, minute + 1)[0] if schedule else None

    told = of_change(change, user, at, NAMES, Reader("UTC", NOW))
    assert (told.notice, list(told.schedules)) == (pb.SHIFT_NOTICE_CHANGED, ["Web"])
    return list(told.stretches)


def span(stretch: pb.ShiftStretch) -> str:
    start, end = stretch.start_time.ToDatetime(UTC), stretch.end_time.ToDatetime(UTC)
    return f"{stretch.schedule} {start:%m-%d %H:%M} {end:%m-%d %H:%M}"


def test_an_override_takes_ben_his_shift_and_gives_it_to_carla() -> None:
    moved = replace(WEB, overrides=(override("2026-01-06 09:00", "2026-01-06 17:00", "carla"),))
    [lost] = told_to("ben", changed(moved, "ben"), moved)
    assert (span(lost), lost.cause) == ("Web 01-06 09:00 01-06 17:00", "override")
    assert list(lost.loss.people.names) == ["Carla"]
    [gained] = told_to("carla", changed(moved, "carla"), moved)
    assert (span(gained), gained.cause, gained.HasField("loss")) == (span(lost), "override", False)


def test_ana_is_told_that_she_is_away_and_who_stands_in() -> None:
    away = replace(WEB, stand_in=True, absences={"ana": ((utc("2026-01-07 00:00"), utc("2026-01-08 00:00")),)})
    [lost, *_] = told_to("ana", changed(away, "ana"), away)
    assert (span(lost), lost.cause) == ("Web 01-07 09:00 01-08 00:00", "")
    assert (lost.loss.absent, list(lost.loss.people.names)) == (True, ["Ben"])
    assert told_to("ben", changed(away, "ben"), away)[0].cause == "stand_in"


def test_a_new_line_up_and_a_deleted_schedule_are_changes() -> None:
    alone = replace(WEB, layers=(layer("ana", turn=DAILY),))
    told = changed(alone, "ben")
    assert told.gained == ()
    assert len(told.lost) == 14
    assert all(each.loss.deleted for each in told_to("ben", told, None))
    nobody = replace(WEB, overrides=(override("2026-01-06 09:00", "2026-01-06 17:00", "-"),))
    [lost, *_] = told_to("ben", changed(nobody, "ben"), nobody)
    assert (list(lost.loss.people.names), lost.loss.deleted, lost.cause) == ([], False, "override")


def test_a_message_lists_twenty_stretches_and_counts_the_others() -> None:
    gained = tuple(ShiftTime("web", NOW + hour * 60, NOW + hour * 60 + 30) for hour in range(15))
    change = Change(gained, tuple(replace(each, start=each.start + 30, end=each.end + 30) for each in gained))
    told = of_change(change, "ana", lambda *_: None, NAMES, Reader("UTC", NOW))
    assert ([each.HasField("loss") for each in told.stretches], told.more_stretches) == ([False] * 15 + [True] * 5, 10)


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
    assert changed(moved, "ben") == Change((ShiftTime("web", utc("2026-01-05 20:00"), utc("2026-01-06 09:00")),))


def test_a_schedule_that_was_not_looked_at_is_not_lost() -> None:
    known = KnownShifts(
        NOW + LOOKED_AT, (ShiftTime("db", NOW - 60, NOW + 60), ShiftTime("old", NOW - 60, NOW)), changed=NOW - 9
    )
    verdict = judge(known, KnownShifts(NOW + LOOKED_AT, ()), NOW, {"db", "old"})
    assert verdict == Verdict(KnownShifts(NOW + LOOKED_AT, (ShiftTime("db", NOW, NOW + 60),)))


def test_what_is_known_of_a_user_has_an_end() -> None:
    every_hour = replace(WEB, layers=(layer(*(("ana", "ben") * 10), turn=DAILY, concurrent=1),))
    found = [shift for shift in shifts_in("web", resolve(every_hour, NOW, NOW + LOOKED_AT)) if shift.user == "ana"]
    many = [replace(shift, schedule=f"s{number:03}") for number in range(200) for shift in found]
    known = present(many, NOW, NOW + LOOKED_AT)
    assert len(known.stretches) == MOST
    assert max(each.end for each in known.stretches) <= known.until < NOW + LOOKED_AT


def test_what_is_told_of_a_swap() -> None:
    offered = ShiftTime("web", utc("2026-01-05 09:00"), utc("2026-01-05 17:00"))
    back = ShiftTime("web", utc("2026-01-06 09:00"), utc("2026-01-06 17:00"))
    offer = Offer("swaps/1", "ana", offered, back, "a wedding")
    reader = Reader("Europe/Berlin", NOW)
    told = of_offer(offer, NAMES, reader)
    assert (told.notice, list(told.people.names), told.reason) == (pb.SHIFT_NOTICE_SWAP_OFFERED, ["Ana"], "a wedding")
    assert ([span(each) for each in told.stretches], told.swap) == (["Web 01-05 09:00 01-05 17:00"], "swaps/1")
    assert span(told.in_return) == "Web 01-06 09:00 01-06 17:00"
    assert not of_offer(replace(offer, in_return=None), NAMES, reader).HasField("in_return")
    taken = of_answer(offer, ["ben"], NAMES, reader, accepted=True)
    assert (taken.notice, list(taken.people.names), taken.swap) == (pb.SHIFT_NOTICE_SWAP_ACCEPTED, ["Ben"], "")
    declined = of_answer(offer, ["ben", "carla"], NAMES, reader, accepted=False)
    assert (declined.notice, list(declined.people.names)) == (pb.SHIFT_NOTICE_SWAP_DECLINED, ["Ben", "Carla"])
