"""Roles: names in a token that stand for scopes, as the contract lists them (`tocsin.type.v1.Role`)."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from tocsin.type.v1 import access_pb2

_PREFIX: Final = "ROLE_"
OPERATOR: Final = "operator"

ROLES: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {
        value.name.removeprefix(_PREFIX).lower(): frozenset(value.GetOptions().Extensions[access_pb2.grants].split())
        for value in access_pb2.Role.DESCRIPTOR.values
        if value.number
    }
)
"""The scopes of each role, by the name that tokens use: `viewer`, `responder`, and so on."""


def scopes_of_roles(claim: object, *, operator: bool) -> frozenset[str]:
    """The scopes of the roles in a claim: one name, several in a text, or a list of them. Unknown names grant nothing.

    `operator`: whether the credential is one for all tenants. Its role counts in no other credential, and no other role counts in
    it.
    """
    names = claim.split() if isinstance(claim, str) else claim if isinstance(claim, list) else []
    granted: set[str] = set()
    for name in names:
        if isinstance(name, str) and (name == OPERATOR) is operator:
            granted |= ROLES.get(name, frozenset())
    return frozenset(granted)
