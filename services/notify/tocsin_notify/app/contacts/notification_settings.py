"""Notification settings of a user: how much they get, and when. Read with their defaults, and replaced as a whole."""

from tocsin_kit.db.pool import Tx
from tocsin_kit.errors import invalid
from tocsin_kit.rpc.masks import require_etag

from tocsin_notify.domain.bundling import BundlePolicy
from tocsin_notify.domain.notification_settings import EVERYBODY, NOTHING_CHOSEN, Budget, NotificationSettings
from tocsin_notify.domain.quiet_hours import QuietHours
from tocsin_notify.domain.template import LANGUAGES
from tocsin_notify.domain.wall_time import BadTime, check_zone
from tocsin_notify.store.contacts import notification_settings as store
from tocsin_notify.store.contacts.notification_settings import SettingsRow
from tocsin_notify.store.pages import quiet_bundles


async def read_effective(tx: Tx, user: str, default: BundlePolicy) -> tuple[SettingsRow | None, NotificationSettings]:
    """The settings that the user has chosen, or the organisation for `users/*`; and the settings that apply. `default`:
    the operator's settings."""
    rows = await store.read(tx, [user, EVERYBODY])
    own, of_all = (rows[each].chosen if each in rows else NOTHING_CHOSEN for each in (user, EVERYBODY))
    counts = own.over(of_all)
    policy = counts.bundling(default)
    return rows.get(user), NotificationSettings(
        Budget(policy.pages, policy.window), counts.quiet or QuietHours(), counts.language or LANGUAGES[0]
    )


async def language_for(tx: Tx, user: str) -> str:
    """In which language a user reads."""
    rows = await store.read(tx, [user, EVERYBODY])
    chosen = (rows[each].chosen.language for each in (user, EVERYBODY) if each in rows)
    return next(filter(None, chosen), LANGUAGES[0])


async def replace_settings(
    tx: Tx, before: SettingsRow | None, user: str, given: NotificationSettings, etag: str
) -> SettingsRow:
    """The settings as they are now. `before`: as they were, locked. Raises ETAG_MISMATCH, INVALID_FIELD."""
    require_etag(etag, before.version if before is not None else 0)
    if given.quiet is not None:
        _check(given.quiet)
    await quiet_bundles.look_anew(tx, None if user == EVERYBODY else user)
    return await store.replace(tx, user, given)


def _check(quiet: QuietHours) -> None:
    field = "notification_settings.quiet_hours"
    if bool(quiet.time_zone) != bool(quiet.windows):
        raise invalid(f"{field}.time_zone", "must be set exactly when windows are: it is their time zone")
    if quiet.time_zone:
        try:
            check_zone(quiet.time_zone)
        except BadTime as error:
            raise invalid(f"{field}.time_zone", str(error)) from error
    if quiet.leave_nothing():
        raise invalid(f"{field}.windows", "must leave some time of the week: pages of low urgency would never be sent")
