"""A user's rules, replaced as a whole."""

from collections.abc import Sequence

from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin_kit.db.pool import Tx
from tocsin_kit.errors import invalid, not_found
from tocsin_kit.rpc.masks import require_etag

from tocsin_notify.domain.page import Rule
from tocsin_notify.store.contacts import contacts, rules
from tocsin_notify.store.contacts.rules import RuleSet


async def replace_rules(tx: Tx, user: str, given: Sequence[Rule], etag: str) -> RuleSet:
    """The rules as they are now. A method may still be unverified: until it is verified, another method serves its
    rule.

    Raises CONTACT_METHOD_NOT_FOUND, ETAG_MISMATCH, INVALID_FIELD.
    """
    # The methods are locked first, in the order in which the deletion of a method locks them.
    owners = await contacts.owners(tx, [rule.method for rule in given])
    before = await rules.read(tx, user, lock=True)
    require_etag(etag, before.version)
    for index, rule in enumerate(given):
        owner = owners.get(rule.method)
        if owner is None:
            raise not_found(ErrorReason.ERROR_REASON_CONTACT_METHOD_NOT_FOUND, f"contactMethods/{rule.method}")
        if owner != user:
            raise invalid(f"notification_rules.rules[{index}].contact_method", f"must be one of {user}'s own")
    return await rules.replace(tx, user, given)
