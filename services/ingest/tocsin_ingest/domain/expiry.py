"""When an alert ends by itself unless its sender sends it again: the end that a sender names with each trigger.

The rules are Alertmanager's: https://github.com/prometheus/alertmanager, `types.Alert.Merge` and `resolve_timeout`.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass(frozen=True, slots=True)
class Expiry:
    """When one trigger ends. `at`: the end that its sender named. `after`: it named none, and ends after this time."""

    at: datetime | None = None
    after: timedelta | None = None

    def past(self, now: datetime) -> bool:
        """Whether the trigger says that its alert has ended already."""
        return self.at is not None and self.at <= now

    def ending(self, now: datetime) -> "Ending":
        """Of a trigger that comes at `now` and is not past."""
        if self.at is not None:
            return Ending(self.at, self.at - now, named=True)
        assert self.after is not None
        return Ending(now + self.after, self.after, named=False)


@dataclass(frozen=True, slots=True)
class Ending:
    """When an alert is over. `at`: when it is over. `lasts`: how long that is after its newest trigger. `named`: by its sender."""

    at: datetime
    lasts: timedelta
    named: bool

    def then(self, newer: "Ending") -> "Ending":
        """With a newer trigger. Of two named ends the later one is used: copies may arrive in another order."""
        return self if self.named and self.at > newer.at else newer
