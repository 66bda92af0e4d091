"""The revocations that this process knows. Checked at every call, so they are in memory and cost two look-ups."""

from dataclasses import dataclass
from typing import Final

from tocsin_kit.auth import ALL_ORGS, INTERNAL, Principal, invalid_credential

FORGET_MARGIN: Final = 3600.0
"""Seconds beyond its expiry for which a revocation is remembered: the clocks of hosts and database differ."""
_REVOKED: Final = "it was revoked"


@dataclass(frozen=True, slots=True)
class Revocation:
    """One token or API key by its id, or all credentials of a subject that were made up to `issued_before`."""

    org_id: str
    token_id: str
    """Empty: `subject` counts."""
    subject: str
    issued_before: float
    """Epoch seconds."""
    expire: float
    """Epoch seconds at which all credentials that it covers have expired."""


class Revocations:
    """Tokens are found by their id, subjects by their name, each with the tenant."""

    def __init__(self) -> None:
        self._tokens: dict[tuple[str, str], Revocation] = {}
        self._subjects: dict[tuple[str, str], Revocation] = {}

    def __len__(self) -> int:
        return len(self._tokens) + len(self._subjects)

    def add(self, revocation: Revocation) -> None:
        """Adding one again changes nothing. Of one subject the latest time is kept."""
        if revocation.token_id:
            _keep_later(self._tokens, (revocation.org_id, revocation.token_id), revocation)
        else:
            _keep_later(self._subjects, (revocation.org_id, revocation.subject), revocation)

    def check(self, principal: Principal) -> None:
        """Raises CREDENTIAL_INVALID for a credential that was revoked.

        Tocsin's own services are never refused: they make new tokens for themselves, and a stolen signing key is ended by
        rotating it.
        """
        if self._tokens and principal.token_id:
            token_id = principal.token_id
            # An operator may not know whose token it is; ids are unique over all tenants.
            if (principal.org_id, token_id) in self._tokens or (ALL_ORGS, token_id) in self._tokens:
                self._refuse(principal)
        if self._subjects:
            found = self._subjects.get((principal.org_id, principal.subject))
            if found is not None and principal.issued <= found.issued_before:
                self._refuse(principal)

    def forget_expired(self, now: float) -> None:
        """Drops revocations that cover nothing any more at epoch second `now`."""
        for kept in (self._tokens, self._subjects):
            for key in [key for key, each in kept.items() if each.expire + FORGET_MARGIN < now]:
                del kept[key]

    @staticmethod
    def _refuse(principal: Principal) -> None:
        if principal.org_id != ALL_ORGS or INTERNAL not in principal.scopes:
            raise invalid_credential(_REVOKED)


def _keep_later(kept: dict[tuple[str, str], Revocation], key: tuple[str, str], revocation: Revocation) -> None:
    known = kept.get(key)
    if known is None or (known.issued_before, known.expire) < (revocation.issued_before, revocation.expire):
        kept[key] = revocation
