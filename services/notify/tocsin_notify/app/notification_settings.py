"""How much a user gets: read as it counts, and replaced as a whole."""

from tocsin_kit.db.pool import Tx
from tocsin_kit.rpc.masks import require_etag

from tocsin_notify.domain.bundling import BundlePolicy
from tocsin_notify.domain.notification_settings import EVERYBODY, NOTHING_CHOSEN, Budget, NotificationSettings
from tocsin_notify.store import notification_settings as store
from tocsin_notify.store.notification_settings import SettingsRow


async def read_effective(tx: Tx, user: str, default: BundlePolicy) -> tuple[SettingsRow | None, NotificationSettings]:
    """What the user has chosen, or the organisation for `users/*`; and what counts. `default` is the operator's."""
    rows = await store.read(tx, [user, EVERYBODY])
    own, of_all = (rows[each].chosen if each in rows else NOTHING_CHOSEN for each in (user, EVERYBODY))
    policy = own.over(of_all).bundling(default)
    return rows.get(user), NotificationSettings(Budget(policy.pages, policy.window))


async def replace_settings(
    tx: Tx, before: SettingsRow | None, user: str, given: NotificationSettings, etag: str
) -> SettingsRow:
    """The settings as they are now. `before`: as they were, locked. Raises ETAG_MISMATCH."""
    require_etag(etag, before.version if before is not None else 0)
    return await store.replace(tx, user, given)
