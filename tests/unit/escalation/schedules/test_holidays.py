"""Layers that count only on public holidays, or never on them."""

from dataclasses import replace
from typing import Any

import pytest
from tocsin_escalation.domain.schedules.checks import problems
from tocsin_escalation.domain.schedules.clock import DAY
from tocsin_escalation.domain.schedules.model import Counts, Holidays, Layer, Schedule, Turn, Unit
from tocsin_escalation.domain.schedules.work import coming
from tocsin_escalation.store.schedules import holiday_calendars
from tocsin_escalation.store.schedules.holiday_calendars import UnknownPlace, days_of, subdivisions
from tocsin_escalation.store.schedules.schedules import layers_from_json, layers_to_json

from tests.unit.escalation.schedules.writing import DAILY, EVERY_DAY, WEEKLY, WORKDAYS, hours, layer, local, told

BAVARIA = "DE", "BY"


def holidays(only: bool, *days: str) -> Holidays:
    return Holidays(*BAVARIA, only, frozenset(local(f"{day} 00:00") // DAY for day in days))


def german(*line_up: str, only: bool, **fields: Any) -> Layer:
    given = {"zone": "Europe/Berlin", "turn": DAILY, "start": "2026-01-01 00:00", **fields}
    return replace(layer(*line_up, **given), holidays=Holidays(*BAVARIA, only, days_of(*BAVARIA)))


def test_on_holidays_the_one_layer_counts_and_on_other_days_the_other() -> None:
    """Epiphany is a holiday in Bavaria, and begins at midnight in Berlin. No user works in its night shift either."""
    work = german("ana", only=False, windows=(hours(WORKDAYS, 9, 17),), id="work", rank=1)
    spare = german("ben", only=True, id="spare")
    found = told(Schedule("web", "Europe/Berlin", (work, spare)), "2026-01-05 00:00", "2026-01-08 00:00")
    assert found == [
        "01-05 00:00 gap",
        "01-05 08:00 ana",
        "01-05 16:00 gap",
        "01-05 23:00 ben",
        "01-06 23:00 gap",
        "01-07 08:00 ana",
        "01-07 16:00 gap",
    ]


def test_a_window_belongs_to_the_day_it_begins_on() -> None:
    """The night from Easter Sunday, a day that Bavaria does not have as a holiday of its own, lasts into Easter Monday."""
    night = german("ana", only=False, windows=(hours(EVERY_DAY, 22, 6),), turn=WEEKLY)
    found = told(Schedule("web", "Europe/Berlin", (night,)), "2026-04-05 12:00", "2026-04-07 12:00")
    assert found == ["04-05 12:00 gap", "04-05 20:00 ana", "04-06 04:00 gap"]


def test_each_holiday_goes_to_the_next_in_the_line_up() -> None:
    """Good Friday, Easter Monday, 1 May; the turns of other days count for no user."""
    duty = german("ana", "ben", "cem", only=True, counts=Counts.COVERED, start="2026-04-01 00:00", zone="UTC")
    found = told(Schedule("web", "UTC", (duty,)), "2026-04-01 00:00", "2026-05-03 00:00")
    assert [each for each in found if "gap" not in each] == ["04-03 00:00 ana", "04-06 00:00 ben", "05-01 00:00 cem"]


def test_what_is_kept_is_the_place_and_what_is_read_are_its_days() -> None:
    written = german("ana", only=True)
    text = layers_to_json((written,))
    assert str(min(days_of(*BAVARIA))) not in text
    assert layers_from_json(text) == (written,)
    assert layers_from_json(text.replace('"DE"', '"XX"'))[0].holidays == Holidays("XX", "BY", True, frozenset()), (
        "the package has given the place up"
    )


def test_a_text_tells_whether_its_places_were_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holiday_calendars, "_known", {BAVARIA})
    assert not holiday_calendars.unknown('[{"name": "holidays"}]')
    assert not holiday_calendars.unknown('[{"holidays": ["DE", "BY", true]}, {"holidays": null}]')
    assert holiday_calendars.unknown('[{"holidays": ["DE", "BY", true]}, {"holidays": ["FR", "", false]}]')


def test_places_that_are_known_and_those_that_are_not() -> None:
    assert local("2026-01-06 00:00") // DAY in days_of(*BAVARIA)
    assert local("2026-01-06 00:00") // DAY not in days_of("DE", "")
    assert "BY" in (subdivisions("DE") or ())
    assert subdivisions("XX") is None
    for place in (("XX", ""), ("DE", "XX")):
        with pytest.raises(UnknownPlace):
            days_of(*place)


def test_counted_turns_with_holidays_are_bounded() -> None:
    fine = german("ana", only=True, counts=Counts.COVERED)
    assert problems("UTC", [fine]) == []
    hourly = replace(fine, turns=(Turn(Unit.HOUR, 12),))
    assert [field for field, _ in problems("UTC", [hourly])] == ["layers[0].counting"]
    many = replace(fine, windows=tuple(hours(WORKDAYS, n, n + 1) for n in range(8)))
    assert [field for field, _ in problems("UTC", [many])] == ["layers[0].windows"]
    assert coming([fine]) > coming([replace(fine, holidays=None)]), "each day is a piece"
