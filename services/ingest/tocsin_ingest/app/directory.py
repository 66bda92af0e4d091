"""What the hot path must know about keys and integrations, from memory.

A rotated or deleted key, a deleted integration, and changed rules and source ranges are noticed by every replica within `TTL`
seconds.
"""

import re
from dataclasses import dataclass
from typing import Final

from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin.ingest.v1.integration_service_pb2 import Integration
from tocsin_kit.auth import Principal, invalid_credential
from tocsin_kit.batches import Batches
from tocsin_kit.db.pool import Database
from tocsin_kit.errors import not_found
from tocsin_kit.fresh_cache import FreshCache
from tocsin_kit.ids import format_name
from tocsin_kit.keys.secret import CHARACTERS, key_hash
from tocsin_kit.keys.sources import read_ranges
from tocsin_kit.logging import get_logger

from tocsin_ingest.app.compile_rules import compile_usable_rules
from tocsin_ingest.domain.routing import Rule
from tocsin_ingest.metrics import IngestMetrics
from tocsin_ingest.store import integrations
from tocsin_ingest.store.integrations import KeyRow, Version

_log = get_logger(__name__)

TTL: Final = 0.8
"""Seconds; with the time of the read it stays under the second the contract promises."""
KEY_PREFIX: Final = "tik_"
_KEY: Final = re.compile(KEY_PREFIX + rf"[A-Za-z0-9_-]{{{CHARACTERS}}}")
SCOPES: Final = frozenset(("alerts:write",))
_UNKNOWN_KEY: Final = "the integration key was never made, was rotated, or its integration is deleted"
_SIZE: Final = 10_000
_MOST_LOOKUPS: Final = 1000
"""Keys that one query looks up: those that came while the query before it ran."""


@dataclass(frozen=True, slots=True)
class Routing:
    """How the alerts of one integration are routed."""

    integration_id: str
    version: Version | None
    rules: tuple[Rule, ...]
    default_policy: str


NO_INTEGRATION: Final = Routing("", None, (), "")
"""For callers that name none: one incident per key, on the tenant's fallback policy."""


class Directory:
    """Keys and integrations, at most `TTL` seconds old."""

    def __init__(self, database: Database, metrics: IngestMetrics, *, ttl: float = TTL) -> None:
        self._database = database
        self._metrics = metrics
        self._lookups: Batches[bytes, KeyRow | None] = Batches(self._find_keys, most=_MOST_LOOKUPS)
        self._keys: FreshCache[bytes, Principal] = FreshCache(self._find_key, ttl=ttl, size=_SIZE)
        self._routing: FreshCache[tuple[str, str], Routing] = FreshCache(self._find_routing, ttl=ttl, size=_SIZE)
        self._compiled: dict[tuple[str, str], Routing] = {}
        self._cut: dict[tuple[str, str], Version | None] = {}

    async def authenticate(self, token: str) -> Principal | None:
        """An integration key stands for its integration, with the scope to write alerts and no other.

        None for anything that is no integration key. Raises CREDENTIAL_INVALID for one that does not work (any more).
        """
        if not token.startswith(KEY_PREFIX):
            return None
        # What cannot be a key costs no query.
        if not _KEY.fullmatch(token):
            raise invalid_credential(_UNKNOWN_KEY)
        return await self._keys.get(key_hash(token))

    async def routing(self, org_id: str, integration_id: str) -> Routing:
        """The integration's rules. Raises INTEGRATION_NOT_FOUND."""
        if not integration_id:
            return NO_INTEGRATION
        return await self._routing.get((org_id, integration_id))

    def changed(self, org_id: str, integration_id: str) -> None:
        """The integration was changed here: use what is true now. Other replicas notice by themselves."""
        self._routing.forget((org_id, integration_id))

    def routing_was_cut(self, org_id: str, routing: Routing) -> None:
        """An alert took the default route since the rules were too expensive for it: counted, and logged once a rule set."""
        self._metrics.routing_cut.inc()
        key = (org_id, routing.integration_id)
        if self._cut.get(key) != routing.version:
            while len(self._cut) >= _SIZE:
                del self._cut[next(iter(self._cut))]
            self._cut[key] = routing.version
            _log.warning(
                "routing_cut", org_id=org_id, integration=routing.integration_id, policy=routing.default_policy
            )

    async def _find_key(self, digest: bytes) -> Principal:
        """Raises CREDENTIAL_INVALID. What is raised is not kept: wrong keys push no right ones out."""
        row = await self._lookups.submit(digest)
        if row is None:
            raise invalid_credential(_UNKNOWN_KEY)
        name = format_name("integrations", row.integration_id)
        return Principal(row.org_id, name, SCOPES, sources=read_ranges(row.source_ranges))

    async def _find_keys(self, digests: list[bytes]) -> list[KeyRow | None]:
        # The tenant is what the key tells, so it cannot be known before.
        async with self._database.system() as tx:
            found = await integrations.find_keys(tx, digests)
        return [found.get(digest) for digest in digests]

    async def _find_routing(self, key: tuple[str, str]) -> Routing:
        org_id, integration_id = key
        known = self._compiled.get(key)
        async with self._database.transaction(org_id) as tx:
            if known is not None and known.version == await integrations.version_of(tx, integration_id):
                return known
            row = await integrations.get(tx, integration_id)
        if row is None:
            self._compiled.pop(key, None)
            raise not_found(ErrorReason.ERROR_REASON_INTEGRATION_NOT_FOUND, format_name("integrations", integration_id))
        rules, left_out = compile_usable_rules(Integration.FromString(row.routing_rules).routing_rules)
        if left_out:
            self._metrics.rules_left_out.inc(len(left_out))
            _log.warning("routing_rules_left_out", org_id=org_id, integration=integration_id, rules=left_out[:20])
        while len(self._compiled) >= _SIZE:
            del self._compiled[next(iter(self._compiled))]
        routing = self._compiled[key] = Routing(integration_id, row.version_key, rules, row.default_policy)
        return routing
