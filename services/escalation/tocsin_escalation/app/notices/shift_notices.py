"""Which notices of shifts a user gets, as the user says."""

from typing import Final

from tocsin.errors.v1 import error_reason_pb2 as reasons
from tocsin_kit.db.pool import Tx
from tocsin_kit.errors import not_found
from tocsin_kit.rpc.masks import require_etag

from tocsin_escalation.store.notices import known_shifts, shift_notices
from tocsin_escalation.store.notices.shift_notices import ChoiceRow, NoticeSettings
from tocsin_escalation.store.people import directory

NOTHING: Final = ChoiceRow("", None, False, None, "", 0, None)
"""The choice of a user who has made none."""


async def find(tx: Tx, user: str) -> ChoiceRow:
    """What the user has chosen. Raises USER_NOT_FOUND."""
    await must_exist(tx, user)
    return await shift_notices.get(tx, user) or NOTHING


async def replace(tx: Tx, user: str, etag: str, wanted: NoticeSettings) -> tuple[ChoiceRow, ChoiceRow]:
    """What the user had chosen, and what they have now. Raises USER_NOT_FOUND, ETAG_MISMATCH."""
    # For a user who is deleted meanwhile, the settings would have no row to refer to.
    await must_exist(tx, user, lock=True)
    before = await shift_notices.get(tx, user, lock=True) or NOTHING
    require_etag(etag, before.version)
    if not wanted.changes:
        await known_shifts.forget(tx, user)
    return before, await shift_notices.save(tx, user, wanted)


async def must_exist(tx: Tx, user: str, *, lock: bool = False) -> None:
    """Raises USER_NOT_FOUND. `lock`: keeps the user there until the transaction ends."""
    if await directory.get_user(tx, user, lock=lock) is None:
        raise not_found(reasons.ERROR_REASON_USER_NOT_FOUND, f"users/{user}")
