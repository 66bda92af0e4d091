"""What digests consist of, connected. A part of `wiring`."""

from datetime import timedelta

from tocsin_notify.app.messages.digests import Preview
from tocsin_notify.app.messages.make_digests import MakeDigests
from tocsin_notify.rpc.digest_service import DigestService
from tocsin_notify.wiring.base import Base


def serve_digests(base: Base) -> None:
    """Add the service, and the loop that makes what is due."""
    preview = Preview(base.db, base.escalation)
    base.runtime.rpc.add(DigestService(base.db, base.escalation, preview, base.page_tokens, base.budgets))
    latest = timedelta(seconds=base.settings.digest_late_seconds)
    make = MakeDigests(base.db, base.escalation, base.hints, base.metrics, latest=latest, notes=base.journal)
    base.runtime.loops.add("digests", base.looks.sweep("digests", make.everything))
