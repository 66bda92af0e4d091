"""What digests consist of, connected. A part of `wiring`."""

from datetime import timedelta

from tocsin_kit.db.pool import Database
from tocsin_kit.lifecycle import Runtime
from tocsin_kit.rpc.paging import PageTokens
from tocsin_kit.tasks.journal import Notes

from tocsin_notify.app.delivery.hints import Hints
from tocsin_notify.app.delivery.looks import Looks
from tocsin_notify.app.messages.digests import Preview
from tocsin_notify.app.messages.make_digests import MakeDigests
from tocsin_notify.clients.escalation import Escalation
from tocsin_notify.metrics import NotifyMetrics
from tocsin_notify.rpc.digest_service import DigestService
from tocsin_notify.settings import NotifySettings


def add_digests(
    runtime: Runtime[NotifySettings],
    db: Database,
    escalation: Escalation,
    hints: Hints,
    metrics: NotifyMetrics,
    pages: PageTokens,
    looks: Looks,
    notes: Notes,
) -> None:
    """Add the service, and the loop that makes what is due."""
    runtime.rpc.add(DigestService(db, Preview(db, escalation), pages, runtime.rpc.budgets))
    latest = timedelta(seconds=runtime.settings.digest_late_seconds)
    make = MakeDigests(db, escalation, hints, metrics, latest=latest, notes=notes)
    runtime.loops.add("digests", looks.sweep("digests", make.everything))
