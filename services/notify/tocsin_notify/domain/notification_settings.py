"""How many messages a user wants, when, and in which language: what they have chosen, and the defaults."""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from tocsin_notify.domain.bundling import BundlePolicy
from tocsin_notify.domain.quiet_hours import QuietHours

EVERYBODY: Final = "users/*"
"""The user of an organisation's settings."""


@dataclass(frozen=True, slots=True)
class Budget:
    """At most `pages` one by one within `window` seconds. 0: pages are never bundled. None: the operator's window."""

    pages: int
    window: float | None = None


@dataclass(frozen=True, slots=True)
class NotificationSettings:
    """None: nothing was chosen."""

    budget: Budget | None = None
    quiet: QuietHours | None = None
    language: str | None = None

    def over(self, others: "NotificationSettings") -> "NotificationSettings":
        """These settings; where they have no value, that of `others`."""
        return NotificationSettings(
            others.budget if self.budget is None else self.budget,
            others.quiet if self.quiet is None else self.quiet,
            self.language or others.language,
        )

    def quiet_until(self, moment: datetime) -> datetime | None:
        """The end of the quiet hours that contain `moment`; None outside of them."""
        return None if self.quiet is None else self.quiet.until(moment)

    def bundling(self, default: BundlePolicy) -> BundlePolicy:
        """When pages are bundled; `default` is the operator's."""
        if self.budget is None:
            return default
        window = default.window if self.budget.window is None else self.budget.window
        return replace(default, pages=self.budget.pages, window=window)


NOTHING_CHOSEN: Final = NotificationSettings()
