"""Windows as JSON values, in schedules and in policies alike."""

from functools import lru_cache
from typing import Any

from tocsin_escalation.domain.schedules.model import Window


def windows_to(windows: tuple[Window, ...]) -> list[Any]:
    """What `windows_from` reads."""
    return [[sorted(window.days), window.start, window.length] for window in windows]


def windows_from(data: list[Any]) -> tuple[Window, ...]:
    """The windows behind `windows_to`."""
    return tuple(_window(tuple(days), start, length) for days, start, length in data)


@lru_cache(1024)
def _window(days: tuple[int, ...], start: int, length: int) -> Window:
    """Cached: nights and weekends of many schedules are equal."""
    return Window(frozenset(days), start, length)
