"""Keys and integrations for the hot path, cached in memory.

A rotated or deleted key, a deleted integration, changed rules, source ranges and silences are noticed by every replica within
`TTL` seconds.
"""

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Final

from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin.ingest.v1.integration_service_pb2 import Integration
from tocsin_kit.auth import Principal, invalid_credential
from tocsin_kit.batches import Batches
from tocsin_kit.bounded import Bounded
from tocsin_kit.db.pool import Database
from tocsin_kit.errors import TocsinError, not_found
from tocsin_kit.fresh_cache import FreshCache
from tocsin_kit.ids import format_name
from tocsin_kit.keys.secret import CHARACTERS, key_hash
from tocsin_kit.keys.sources import read_ranges
from tocsin_kit.logging import get_logger
from tocsin_kit.secret_boxes import Boxes, SecretLost

from tocsin_ingest.app.alerts.route_records import RouteRecords, records_of
from tocsin_ingest.app.alerts.signatures import SignatureRule, context_of
from tocsin_ingest.app.integrations.compile_mail import compile_mail
from tocsin_ingest.app.integrations.compile_mapping import CompiledMapping, compile_mapping
from tocsin_ingest.app.integrations.compile_rules import compile_usable_rules
from tocsin_ingest.app.silences.compiled_silences import CompiledSilences
from tocsin_ingest.domain.mails import Rules
from tocsin_ingest.domain.routing import SUMMARY, Rule
from tocsin_ingest.domain.silences import Silence
from tocsin_ingest.metrics import IngestMetrics
from tocsin_ingest.store.alerts import alerts
from tocsin_ingest.store.integrations import integrations
from tocsin_ingest.store.integrations.integrations import IntegrationRow, KeyRow, Version

_log = get_logger(__name__)

TTL: Final = 0.8
"""Seconds; with the time of the read it stays under the second the contract promises."""
KEY_PREFIX: Final = "tik_"
_KEY: Final = re.compile(KEY_PREFIX + rf"[A-Za-z0-9_-]{{{CHARACTERS}}}")
SCOPES: Final = frozenset(("alerts:write",))
_UNKNOWN_KEY: Final = "the integration key was never made, was rotated, or its integration is deleted"
_EXPIRED_KEY: Final = "the key of {name} has expired, and it has no other; RotateIntegrationKey makes one"
_SIZE: Final = 10_000
_MOST_LOOKUPS: Final = 1000
"""Keys that one query looks up: those that arrived while the previous query ran."""
EVERY_MAIL_OPENS: Final = Rules()


@dataclass(frozen=True, slots=True)
class Routing:
    """How the alerts of one integration are routed, and the silences of the tenant.

    Callers that name no integration, and those of deleted ones, have no rules: one incident per key, on the tenant's fallback
    policy.
    """

    integration_id: str
    version: Version | None
    rules: tuple[Rule, ...]
    default_policy: str
    silences: tuple[Silence, ...] = ()
    records: RouteRecords = field(default_factory=RouteRecords, compare=False)
    """What an alert's decision tells of each rule."""
    mapping: CompiledMapping | None = None
    """How alerts are read out of JSON of any form; None: in the default way."""
    mail: Rules = EVERY_MAIL_OPENS
    """The effects of mails."""
    signature: SignatureRule | None = None
    """How bodies must be signed; None: they need not be."""
    mark: object = field(default_factory=object, init=False, compare=False)
    """A new object for each state of the rules and silences: an alert that was read with this mark would be read in the same
    way."""
    reads_summary: bool = field(default=False, init=False, compare=False)
    """Whether a rule or a silence matches summaries."""

    def __post_init__(self) -> None:
        sets = [*(rule.matchers for rule in self.rules), *(silence.matchers for silence in self.silences)]
        reads = any(matcher.label == SUMMARY for matchers in sets for matcher in matchers)
        object.__setattr__(self, "reads_summary", reads)


def principal_of(row: KeyRow) -> Principal:
    """The integration, with the scope to write alerts and no other."""
    name = format_name("integrations", row.integration_id)
    return Principal(row.org_id, name, SCOPES, sources=read_ranges(row.source_ranges))


class Directory:
    """Keys and integrations, at most `TTL` seconds old."""

    def __init__(
        self, database: Database, metrics: IngestMetrics, boxes: Boxes | None = None, *, ttl: float = TTL
    ) -> None:
        """`boxes`: what the secrets of integrations are in; None: no signature can be checked."""
        self.silences: Final = CompiledSilences(metrics)
        self._boxes = boxes
        self._database = database
        self._metrics = metrics
        self._lookups: Batches[bytes, KeyRow | None] = Batches(self._find_keys, most=_MOST_LOOKUPS)
        self._keys: FreshCache[bytes, Principal] = FreshCache(self._find_key, ttl=ttl, size=_SIZE)
        self._routing: FreshCache[tuple[str, str], Routing] = FreshCache(self._find_routing, ttl=ttl, size=_SIZE)
        self._compiled: Bounded[tuple[str, str], Routing] = Bounded(_SIZE)
        self._expired: Callable[[Principal, TocsinError], Awaitable[None]] | None = None
        self._cut: Bounded[tuple[str, str], Version | None] = Bounded(_SIZE)

    async def authenticate(self, token: str) -> Principal | None:
        """An integration key stands for its integration, with the scope to write alerts and no other.

        None for anything that is no integration key. Raises CREDENTIAL_INVALID for one that does not work (any more).
        """
        if not token.startswith(KEY_PREFIX):
            return None
        # Text that cannot be a key costs no query.
        if not _KEY.fullmatch(token):
            raise invalid_credential(_UNKNOWN_KEY)
        digest = key_hash(token)
        return self._keys.fresh(digest) or await self._keys.get(digest)

    async def holder_of(self, row: KeyRow | None, unknown: str) -> Principal:
        """The integration of a key. Raises CREDENTIAL_INVALID, with `unknown` for one that was not found."""
        if row is None:
            raise invalid_credential(unknown)
        principal = principal_of(row)
        if row.remaining is not None and row.remaining <= timedelta(0):
            error = invalid_credential(_EXPIRED_KEY.format(name=principal.subject))
            if self._expired is not None:
                await self._expired(principal, error)
            raise error
        return principal

    def watch_expired(self, report: Callable[[Principal, TocsinError], Awaitable[None]]) -> None:
        """`report` is awaited when an expired key is used, and its integration has no working key."""
        self._expired = report

    async def routing(self, org_id: str, integration_id: str) -> Routing:
        """The integration's rules and the tenant's silences. Raises INTEGRATION_NOT_FOUND."""
        key = (org_id, integration_id)
        return self._routing.fresh(key) or await self._routing.get(key)

    async def firing_keys(self, org_id: str, integration_id: str) -> list[str]:
        """The dedup key of one alert of each of the integration's newest open incidents."""
        async with self._database.transaction(org_id) as tx:
            return await alerts.firing_keys(tx, integration_id)

    async def now(self, org_id: str) -> float:
        """The database's time, in seconds since 1970."""
        async with self._database.transaction(org_id) as tx:
            return (await tx.now()).timestamp()

    def changed(self, org_id: str, integration_id: str) -> None:
        """The integration was changed here: drop its cached state. Other replicas notice within `TTL`."""
        self._routing.forget((org_id, integration_id))

    def silences_changed(self, org_id: str) -> None:
        """A silence of the tenant was changed here: drop the cached ones. Other replicas notice within `TTL`."""
        self._routing.forget_all(lambda key: key[0] == org_id)

    def routing_was_cut(self, org_id: str, routing: Routing) -> None:
        """An alert took the default route because the rules were too expensive for it: counted, and logged once a rule set."""
        self._metrics.routing_cut.inc()
        key = (org_id, routing.integration_id)
        if self._cut.get(key) != routing.version:
            self._cut[key] = routing.version
            _log.warning(
                "routing_cut", org_id=org_id, integration=routing.integration_id, policy=routing.default_policy
            )

    async def _find_key(self, digest: bytes) -> Principal:
        """Raises CREDENTIAL_INVALID. Errors are not cached: wrong keys cannot push right ones out."""
        return await self.holder_of(await self._lookups.submit(digest), _UNKNOWN_KEY)

    async def _find_keys(self, digests: list[bytes]) -> list[KeyRow | None]:
        # The key itself tells the tenant, so the tenant is not known before.
        async with self._database.autocommit() as tx:
            found = await integrations.find_keys(tx, digests)
        return [found.get(digest) for digest in digests]

    async def _find_routing(self, key: tuple[str, str]) -> Routing:
        org_id, integration_id = key
        known = self._compiled.get(key)
        async with self._database.transaction(org_id) as tx:
            silences = await self.silences.read(tx)
            if not integration_id:
                return self._silenced(key, known or Routing("", None, (), ""), silences)
            if known is not None and known.version == await integrations.version_of(tx, integration_id):
                return self._silenced(key, known, silences)
            row = await integrations.get(tx, integration_id)
        if row is None:
            self._compiled.pop(key, None)
            raise not_found(ErrorReason.ERROR_REASON_INTEGRATION_NOT_FOUND, format_name("integrations", integration_id))
        stored = Integration.FromString(row.routing_rules)
        rules, left_out = compile_usable_rules(stored.routing_rules)
        if left_out:
            self._metrics.rules_left_out.inc(len(left_out))
            _log.warning("routing_rules_left_out", org_id=org_id, integration=integration_id, rules=left_out[:20])
        mapping = self._mapping(org_id, integration_id, stored)
        mail = self._mail(org_id, integration_id, stored)
        signature = self._signature(org_id, row, stored)
        routing = Routing(
            *(integration_id, row.version_key, rules, row.default_policy),
            mapping=mapping,
            mail=mail,
            signature=signature,
            records=records_of(rules, row.default_policy, row.version),
        )
        return self._silenced(key, routing, silences)

    def _mapping(self, org_id: str, integration_id: str, stored: Integration) -> CompiledMapping | None:
        if not stored.HasField("mapping"):
            return None
        try:
            return compile_mapping(stored.mapping)
        except TocsinError as error:
            # Stored under other limits. Its alerts are read as those of an integration without a mapping.
            self._metrics.rules_left_out.inc()
            _log.warning("mapping_left_out", org_id=org_id, integration=integration_id, error=error.message)
            return None

    def _mail(self, org_id: str, integration_id: str, stored: Integration) -> Rules:
        try:
            return compile_mail(stored.mail)
        except TocsinError as error:
            # Stored under other limits. Then each mail is a trigger: one page too many is better than none.
            self._metrics.rules_left_out.inc()
            _log.warning("mail_rules_left_out", org_id=org_id, integration=integration_id, error=error.message)
            return EVERY_MAIL_OPENS

    def _signature(self, org_id: str, row: IntegrationRow, stored: Integration) -> SignatureRule | None:
        if row.signature_secret is None:
            return None
        secret: bytes | None = None
        try:
            if self._boxes is not None:
                secret = self._boxes.open(context_of(org_id, row.integration_id), row.signature_secret)
        except SecretLost as error:
            _log.error("signature_secret_lost", org_id=org_id, integration=row.integration_id, error=str(error))
        return SignatureRule(stored.signature.header, stored.signature.timestamp_header, secret)

    def _silenced(self, key: tuple[str, str], routing: Routing, silences: tuple[Silence, ...]) -> Routing:
        """The routing with these silences: the one that was returned before, if it had the same."""
        if routing.silences is not silences:
            routing = replace(routing, silences=silences)
        if self._compiled.get(key) is not routing:
            self._compiled[key] = routing
        return routing
