"""Applies a tenant's templates to its messages when they are sent.

Each replica reads every two seconds which tenants have templates, and in which version. A change applies everywhere
within some seconds, and a tenant without templates costs one look-up in memory. Templates are read when they are first
needed, and then cached, up to a limit. No fault here delays a message: its default text is sent, and its attempt names
the fault.
"""

import asyncio
import contextvars
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import Final

from tocsin_kit.db.pool import Database
from tocsin_kit.errors import TocsinError
from tocsin_kit.logging import get_logger
from tocsin_kit.loops import Sweep

from tocsin_notify.channels.base import Delivery
from tocsin_notify.channels.registry import TYPES
from tocsin_notify.domain.template import FIXED
from tocsin_notify.metrics import NotifyMetrics
from tocsin_notify.store.messages import templates as store
from tocsin_notify.templates.chosen import Source, TenantTemplates

_log = get_logger(__name__)

_READ_SECONDS: Final = 2.0
_PATIENCE: Final = 1.0
"""Seconds that a message waits for its template."""
_MOST_WEIGHT: Final = 50_000
"""The limit of the cache: about 35 MB, if tenants use all that they may store."""
_DEFAULT: Final = "the default text was used"
_UNREADABLE: Final = f"{_DEFAULT}: the templates could not be read in time"


@dataclass(frozen=True, slots=True)
class _Kept:
    version: int
    templates: TenantTemplates


class Wordings:
    """The templates of tenants, kept in memory. One object per process."""

    def __init__(self, db: Database, metrics: NotifyMetrics) -> None:
        self._db = db
        self._metrics = metrics
        self._versions: dict[str, int] | None = None
        """The version of each tenant that has templates; None: not read yet."""
        self._own: dict[str, int] = {}
        """Tenants whose templates this replica has changed since the last read began."""
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._weight = 0
        self._reading: dict[str, asyncio.Task[TenantTemplates]] = {}
        self.sweep: Final = Sweep(_READ_SECONDS, self.refresh)
        """A loop for the service to add; without the database, the cache stays as it is."""

    async def refresh(self) -> None:
        """Read which tenants have templates. Raises DATABASE_UNAVAILABLE."""
        self._own.clear()
        async with self._db.system() as tx:
            versions = await store.versions(tx)
        for org_id, version in self._own.items():
            versions[org_id] = max(version, versions.get(org_id, 0))
        self._versions = versions
        for org_id in [each for each in self._kept if each not in self._versions]:
            self._forget(org_id)

    def changed(self, org_id: str, version: int) -> None:
        """This replica has changed them, and uses the new ones from now on."""
        self._own[org_id] = version
        if self._versions is not None:
            self._versions[org_id] = version

    async def word(self, delivery: Delivery) -> Delivery:
        """The delivery with the texts of its tenant's template, if there is one. Raises nothing."""
        parts = TYPES[delivery.target.channel].parts
        if not parts or delivery.kind in FIXED:
            return delivery
        if self._versions is not None and delivery.org_id not in self._versions:
            return delivery
        try:
            async with asyncio.timeout(_PATIENCE):
                templates = await self._templates(delivery.org_id)
        except (TocsinError, TimeoutError):
            return self._told(replace(delivery, faults=(_UNREADABLE,)))
        except Exception:
            _log.exception("templates_defect", org_id=delivery.org_id)
            return self._told(replace(delivery, faults=(_UNREADABLE,)))
        template = templates.find(delivery.kind, delivery.language)
        if template is None:
            return delivery
        wording, failed = template.word(delivery, parts)
        faults = tuple(f"{_DEFAULT}: the {part} of {template.name} failed: {error}" for part, error in failed.items())
        return self._told(replace(delivery, wording=wording, faults=faults))

    def _told(self, delivery: Delivery) -> Delivery:
        for fault in delivery.faults:
            self._metrics.template_faults.labels(delivery.target.channel).inc()
            _log.error(
                "template_failed",
                org_id=delivery.org_id,
                notification=str(delivery.notification),
                type=str(delivery.kind),
                error=fault,
            )
        return delivery

    async def _templates(self, org_id: str) -> TenantTemplates:
        kept = self._kept.get(org_id)
        if kept is not None and self._versions is not None and kept.version >= self._versions.get(org_id, 0):
            self._kept.move_to_end(org_id)
            return kept.templates
        task = self._reading.get(org_id)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._read(org_id), context=contextvars.Context())
            self._reading[org_id] = task
            task.add_done_callback(lambda done: self._end(org_id, done))
        # Shielded: when one message stops waiting, the read goes on for the other messages.
        return await asyncio.shield(task)

    def _end(self, org_id: str, task: "asyncio.Task[TenantTemplates]") -> None:
        self._reading.pop(org_id, None)
        if not task.cancelled():
            task.exception()  # the messages that waited have seen the error; there may have been none

    async def _read(self, org_id: str) -> TenantTemplates:
        async with self._db.transaction(org_id) as tx:
            version, rows = await store.all_of(tx)
        sources = [Source(f"templates/{row.id}", row.kind, row.language, row.parts) for row in rows]
        # Reading many long templates takes a while, during which pages must be sent.
        templates = await asyncio.to_thread(TenantTemplates, sources)
        self._forget(org_id)
        self._kept[org_id] = _Kept(version, templates)
        self._weight += templates.weight
        while self._weight > _MOST_WEIGHT and len(self._kept) > 1:
            self._forget(next(iter(self._kept)))
        return templates

    def _forget(self, org_id: str) -> None:
        kept = self._kept.pop(org_id, None)
        if kept is not None:
            self._weight -= kept.templates.weight
