"""What can go wrong, by name."""


class TimersError(Exception):
    """The base of every error this library raises by itself; Redis' own errors pass through unchanged."""


class QueueFull(TimersError):
    """A send was refused: `max_waiting` messages of that priority are waiting already. Nothing was stored."""


class MessageUnreadable(TimersError, ValueError):
    """Bytes that are no message of this formatter, or name a protobuf type this process does not know."""


class ScheduleUnsupported(TimersError, ValueError):
    """A schedule that is not one point in time. See `TimerSource.add_schedule`."""


class MigrationIncomplete(ScheduleUnsupported):
    """Some schedules of the source that was migrated from stay there; all others have moved.

    `moved`: how many did. `refused`: the reason by schedule id (cron, interval, unreadable, no id for a timer).
    """

    def __init__(self, moved: int, refused: dict[str, str]) -> None:
        self.moved = moved
        self.refused = refused
        named = "; ".join(f"{id}: {reason}" for id, reason in list(refused.items())[:5])
        more = f"; and {len(refused) - 5} more" if len(refused) > 5 else ""
        super().__init__(
            f"{moved} schedules moved, {len(refused)} stay in the source they were in and need its `taskiq scheduler`: "
            f"{named}{more}"
        )
