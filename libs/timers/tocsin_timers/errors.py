"""What can go wrong, by name."""


class TimersError(Exception):
    """The base of every error this library raises by itself; Redis' own errors pass through unchanged."""


class QueueFull(TimersError):
    """A send was refused: `max_waiting` messages of that priority are waiting already. Nothing was stored."""


class MessageUnreadable(TimersError, ValueError):
    """Bytes that are no message of this formatter, or name a protobuf type this process does not know."""


class ScheduleUnsupported(TimersError, ValueError):
    """A schedule that is not one point in time. See `TimerSource.add_schedule`."""
