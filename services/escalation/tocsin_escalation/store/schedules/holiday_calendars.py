"""Public holidays of countries and their subdivisions, from the pinned package `holidays`.

They are computed from the package when a process first needs them, like time zones, and stored nowhere. All replicas of one
version agree, and a change in a new version of the package applies to all schedules.

The package takes some 0.5 s to load and some 0.1 s for a country. So code that may be the first to need it runs it in a thread.
"""

import re
from datetime import date
from functools import lru_cache
from typing import Final

YEARS: Final = range(2000, 2101)
"""Outside of these no day is a holiday: for most countries the package has no more."""
KEPT: Final = 128
"""Calendars that a process caches. Each is some 1,500 days."""
Place = tuple[str, str]
"""A country (ISO 3166-1 alpha-2) and a subdivision of it, or an empty one for holidays of the whole country."""
_EPOCH: Final = date(1970, 1, 1).toordinal()
_PLACE: Final = re.compile(r'"holidays": \["([A-Z]{2})", "([A-Za-z0-9-]*)"')
_known: set[Place] = set()


class UnknownPlace(ValueError):
    """The package has no holidays of it."""


def days_of(country: str, subdivision: str) -> frozenset[int]:
    """The public holidays, counted from 1970-01-01 on. Raises UnknownPlace."""
    found = _days(country, subdivision)
    if found is None:
        raise UnknownPlace(country, subdivision)
    return found


def subdivisions(country: str) -> list[str] | None:
    """The subdivisions of a country that have holidays of their own; None for a country that the package does not have."""
    # Imported here: processes without such schedules never load it.
    import holidays

    found = holidays.list_supported_countries().get(country)
    return None if found is None else sorted(found)


def unknown(text: str) -> bool:
    """Whether layers, as PostgreSQL returns them, name a place whose holidays this process has not loaded yet."""
    return '"holidays": [' in text and any(place not in _known for place in _PLACE.findall(text))


@lru_cache(KEPT)
def _days(country: str, subdivision: str) -> frozenset[int] | None:
    import holidays

    try:
        found = holidays.country_holidays(country, subdiv=subdivision or None, years=YEARS)
    except NotImplementedError:
        return None
    finally:
        _known.add((country, subdivision))
    return frozenset(day.toordinal() - _EPOCH for day in found)
