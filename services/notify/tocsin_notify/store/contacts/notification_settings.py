"""Notification settings that users, and their organisation for all users, have chosen; each stored as a whole with one
version."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import sqlalchemy as sa
from tocsin_kit.db.pool import Tx
from tocsin_kit.db.statements import Statement, columns_of, param

from tocsin_notify.domain.notification_settings import Budget, NotificationSettings
from tocsin_notify.domain.quiet_hours import QuietHours, QuietWindow
from tocsin_notify.store.tables import notification_settings


@dataclass(frozen=True, slots=True)
class SettingsRow:
    """A stored row."""

    user_id: str
    budget_pages: int | None
    budget_window: float | None
    version: int
    update_time: datetime
    quiet_hours: str | None
    language: str | None

    @property
    def chosen(self) -> NotificationSettings:
        """As values of the domain."""
        return chosen(self.budget_pages, self.budget_window, self.quiet_hours, self.language)


_SELECT: Final = sa.select(*columns_of(notification_settings, SettingsRow)).where(
    notification_settings.c.org_id == param("org_id"),
    notification_settings.c.user_id == sa.any_(param("users", sa.ARRAY(sa.Text))),
)
_READ: Final = Statement(_SELECT)
_LOCK: Final = Statement(_SELECT.with_for_update())
_REPLACE: Final = """
INSERT INTO notification_settings AS s (org_id, user_id, budget_pages, budget_window, quiet_hours, language)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (org_id, user_id) DO UPDATE SET version = s.version + 1, update_time = app_now(),
  budget_pages = excluded.budget_pages, budget_window = excluded.budget_window, quiet_hours = excluded.quiet_hours,
  language = excluded.language
RETURNING user_id, budget_pages, budget_window, version, update_time, quiet_hours, language
"""


def chosen(
    budget_pages: int | None, budget_window: float | None, quiet_hours: str | None, language: str | None
) -> NotificationSettings:
    """The value of these columns."""
    return NotificationSettings(
        None if budget_pages is None else Budget(budget_pages, budget_window),
        None if quiet_hours is None else _opened(quiet_hours),
        language,
    )


def _opened(text: str) -> QuietHours:
    kept = json.loads(text)
    windows = (QuietWindow(frozenset(each["days"]), each["start"], each["length"]) for each in kept["windows"])
    return QuietHours(kept["time_zone"], tuple(windows))


def _closed(quiet: QuietHours) -> str:
    windows = [{"days": sorted(each.days), "start": each.start, "length": each.length} for each in quiet.windows]
    return json.dumps({"time_zone": quiet.time_zone, "windows": windows})


async def read(tx: Tx, users: Sequence[str], *, lock: bool = False) -> dict[str, SettingsRow]:
    """The settings of those who have chosen some."""
    rows = await tx.fetch(*(_LOCK if lock else _READ)(org_id=tx.org_id, users=list(users)))
    return {row["user_id"]: SettingsRow(*row) for row in rows}


async def forget(tx: Tx, user: str) -> None:
    """Delete the user's settings."""
    await tx.execute("DELETE FROM notification_settings WHERE org_id = $1 AND user_id = $2", tx.org_id, user)


async def replace(tx: Tx, user: str, given: NotificationSettings) -> SettingsRow:
    """Replace the settings by these."""
    budget = given.budget
    quiet = None if given.quiet is None else _closed(given.quiet)
    row = await tx.fetchrow(
        _REPLACE, tx.org_id, user, budget and budget.pages, budget and budget.window, quiet, given.language
    )
    assert row is not None
    return SettingsRow(*row)
