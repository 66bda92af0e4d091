"""Windows of the contract to domain and back."""

from tocsin.escalation.v1 import schedule_pb2 as pb

from tocsin_escalation.domain.schedules.clock import DAY
from tocsin_escalation.domain.schedules.model import Window


def window_from(message: pb.Window) -> Window:
    """A window of the contract; its shape has been checked."""
    start, end = _clock(message.start), _clock(message.end)
    length = message.end_days_later * DAY + end - start
    if length <= 0 and not message.end_days_later:
        length += DAY
    return Window(frozenset(day - 1 for day in message.days), start, length)


def window_to(window: Window) -> pb.Window:
    """A window for the contract."""
    later, end = divmod(window.start + window.length, DAY)
    if end == 0:
        later, end = later - 1, DAY
    return pb.Window(
        days=[day + 1 for day in sorted(window.days)],  # type: ignore[misc]  # the number is the enum's own
        start=_hours(window.start),
        end=_hours(end),
        end_days_later=later,
    )


def _clock(text: str) -> int:
    hours, minutes = text.split(":")
    return int(hours) * 60 + int(minutes)


def _hours(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"
