"""How much a user wants to get: what they have chosen, and what counts where they have chosen nothing."""

from dataclasses import dataclass, replace
from typing import Final

from tocsin_notify.domain.bundling import BundlePolicy

EVERYBODY: Final = "users/*"
"""The user of an organisation's settings."""


@dataclass(frozen=True, slots=True)
class Budget:
    """So many `pages` one by one within `window` seconds. 0: pages are never bundled. None: the operator's window."""

    pages: int
    window: float | None = None


@dataclass(frozen=True, slots=True)
class NotificationSettings:
    """None: nothing was chosen."""

    budget: Budget | None = None

    def over(self, others: "NotificationSettings") -> "NotificationSettings":
        """These; where they say nothing, `others`."""
        return NotificationSettings(others.budget if self.budget is None else self.budget)

    def bundling(self, default: BundlePolicy) -> BundlePolicy:
        """When pages come together; `default` is the operator's."""
        if self.budget is None:
            return default
        window = default.window if self.budget.window is None else self.budget.window
        return replace(default, pages=self.budget.pages, window=window)


NOTHING_CHOSEN: Final = NotificationSettings()
