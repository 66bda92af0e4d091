"""Who is next, and when am I on: the first stretch of each user at a level."""

from collections.abc import Collection, Mapping
from random import Random

from tocsin_escalation.domain.conditions import ALWAYS as ANY_TIME
from tocsin_escalation.domain.conditions import Condition
from tocsin_escalation.domain.earliest import AHEAD, BACK, Earliest, SpentWork, of_level
from tocsin_escalation.domain.policy import Directory, Target
from tocsin_escalation.domain.schedules.clock import DAY, time_of
from tocsin_escalation.domain.schedules.model import ALWAYS, FOREVER, Schedule, Turn, Unit
from tocsin_escalation.domain.schedules.resolve import resolve

from tests.rounds import LONG
from tests.unit.escalation.people import schedule, team, user
from tests.unit.escalation.schedules.random_schedules import PEOPLE, random_schedule
from tests.unit.escalation.schedules.writing import DAILY, EVERY_DAY, MONTHLY, hours, layer, override, utc

THERE = Directory(frozenset(PEOPLE), {"core": ("ana", "ben")})
NIGHT = Condition(windows=(hours(EVERY_DAY, 20, 8),), zone="UTC")
MONDAY = "2026-03-02 12:00"


def look(
    *targets: Target,
    known: Mapping[str, Schedule],
    at: str = MONDAY,
    condition: Condition = ANY_TIME,
    there: Directory = THERE,
    only: Collection[str] = (),
) -> list[Earliest]:
    return of_level(targets, condition, there, known, utc(at), only, SpentWork())


def told(found: list[Earliest]) -> list[str]:
    """`ana web 03-02 09:00 - 03-09 09:00`."""
    return [f"{each.user} {each.schedule} {_time(each.start)} - {_time(each.end)}" for each in found]


def _time(minute: int) -> str:
    return "..." if minute in (ALWAYS, FOREVER) else f"{time_of(minute):%m-%d %H:%M}"


def web(*line_up: str, turn: Turn = DAILY, **fields: object) -> dict[str, Schedule]:
    return {"web": Schedule("web", "UTC", (layer(*line_up, turn=turn),), **fields)}  # type: ignore[arg-type]


def test_the_user_on_call_comes_first_and_then_the_next_one() -> None:
    assert told(look(schedule("web"), known=web("ana", "ben", "cem"))) == [
        "cem web 03-02 09:00 - 03-03 09:00",
        "ana web 03-03 09:00 - 03-04 09:00",
        "ben web 03-04 09:00 - 03-05 09:00",
    ]


def test_the_boundary_belongs_to_the_newcomer() -> None:
    assert told(look(schedule("web"), known=web("ana", "ben"), at="2026-03-03 09:00"))[0].startswith("ben web 03-03")


def test_an_override_moves_who_is_next() -> None:
    ill = override("2026-03-02 20:00", "2026-03-03 06:00", "ben")
    assert told(look(schedule("web"), known=web("ana", "ben", "cem", overrides=(ill,)))) == [
        "cem web 03-02 09:00 - 03-02 20:00",
        "ben web 03-02 20:00 - 03-03 06:00",
        "ana web 03-03 09:00 - 03-04 09:00",
    ]


def test_the_next_stretch_of_a_user_who_is_away_is_the_one_after() -> None:
    away = {"ana": ((utc("2026-03-03 00:00"), utc("2026-03-05 00:00")),)}
    found = told(look(schedule("web"), known=web("ana", "ben", "cem", absences=away)))
    assert found[-1] == "ana web 03-06 09:00 - 03-07 09:00"


def test_a_user_whom_the_level_names_is_always_on_call() -> None:
    assert told(look(schedule("web"), user("cem"), team("core"), known=web("ana", "cem"))) == [
        "ana  ... - ...",
        "ben  ... - ...",
        "cem  ... - ...",
    ]


def test_a_level_of_the_night_has_only_the_night() -> None:
    assert told(look(schedule("web"), user("dora"), known=web("ana", "ben", "cem"), condition=NIGHT)) == [
        "cem web 03-02 20:00 - 03-03 08:00",
        "dora  03-02 20:00 - 03-03 08:00",
        "ana web 03-03 20:00 - 03-04 08:00",
        "ben web 03-04 20:00 - 03-05 08:00",
    ]


def test_of_two_schedules_the_earlier_one_tells() -> None:
    known = web("ana", "ben") | {"db": Schedule("db", "UTC", (layer("ben", "cem", start="2026-03-02 10:00"),))}
    assert told(look(schedule("web"), schedule("db"), known=known)) == [
        "ana web 03-02 09:00 - 03-03 09:00",
        "ben db 03-02 10:00 - 03-09 10:00",
        "cem db 03-09 10:00 - 03-16 10:00",
    ]


def test_who_is_disabled_or_not_asked_for_is_not_there() -> None:
    without = Directory(THERE.users - {"ana"})
    assert [each.user for each in look(schedule("web"), user("ana"), known=web("ana", "ben"), there=without)] == ["ben"]
    assert [each.user for each in look(schedule("web"), user("cem"), known=web("ana", "ben"), only=["ben"])] == ["ben"]


def test_the_third_of_monthly_turns_is_found_and_the_fifth_is_too_far() -> None:
    found = told(look(schedule("web"), known=web("ana", "ben", "cem", "dora", "eva", turn=MONTHLY)))
    assert found == [
        "ben web 02-05 09:00 - 03-05 09:00",
        "cem web 03-05 09:00 - 04-05 09:00",
        "dora web 04-05 09:00 - 05-05 09:00",
        "eva web 05-05 09:00 - ...",
    ]


def test_a_year_has_no_edge_within_sight() -> None:
    assert told(look(schedule("web"), known=web("ana", turn=Turn(Unit.MONTH, 12)), at="2026-06-01 00:00")) == [
        "ana web ... - ..."
    ]


def test_a_schedule_that_is_gone_has_no_users() -> None:
    assert look(schedule("web"), known={}) == []


def test_it_is_what_the_pager_says_minute_by_minute() -> None:
    # Each schedule is resolved over four months to compare with.
    for seed in range(200 if LONG else 20):
        random = Random(seed)
        here, since, until = random_schedule(random, 48)
        minute = random.randint(since, until)
        found = {
            each.user: each
            for each in of_level([schedule("night")], ANY_TIME, THERE, {"night": here}, minute, (), SpentWork())
        }
        wide = resolve(here, minute - BACK - DAY, minute + AHEAD[-1] + DAY)
        for name in PEOPLE:
            on = [
                each for each in wide if name in each.people and each.end > minute and each.start < minute + AHEAD[-1]
            ]
            assert (name in found) == bool(on), (seed, name)
            if not on:
                continue
            begins = max(on[0].start, minute)
            assert max(found[name].start, minute) == begins, (seed, name)
            if found[name].start != ALWAYS:
                assert not any(name in each.people for each in wide if each.end == found[name].start), (seed, name)
            if found[name].end != FOREVER:
                [after] = [each for each in wide if each.start == found[name].end]
                assert name not in after.people, (seed, name)
