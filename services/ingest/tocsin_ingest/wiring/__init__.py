"""Connects the parts of this service; no other package builds them."""

from tocsin.escalation.v1.internal_service_pb2 import IncidentEvent
from tocsin_kit.auditing import serve_audit
from tocsin_kit.budgets.serving import serve_limits, share
from tocsin_kit.db.relay_serving import serve_relay
from tocsin_kit.keys.record import RemoteKeyRecord
from tocsin_kit.keys.serving import serve_keys
from tocsin_kit.lifecycle import Runtime, Service
from tocsin_kit.loops import Sweep
from tocsin_kit.rpc.outbox_service import OutboxService

from tocsin_ingest.app.alerts.alert_request import Sender
from tocsin_ingest.app.alerts.expire_alerts import EVERY as EXPIRE_EVERY
from tocsin_ingest.app.alerts.expire_alerts import ExpireAlerts
from tocsin_ingest.app.alerts.look_again import EVERY as LOOK_EVERY
from tocsin_ingest.app.alerts.look_again import LookAgain
from tocsin_ingest.app.alerts.rate_limit import SERVICE
from tocsin_ingest.app.alerts.refusals import EVERY as REFUSALS_EVERY
from tocsin_ingest.app.alerts.simulate_alert import Simulation
from tocsin_ingest.app.incidents.reconcile import Reconciler
from tocsin_ingest.app.incidents.resolve_quiet import QuietIncidents
from tocsin_ingest.app.integrations.heartbeats import EVERY as HEARTBEATS_EVERY
from tocsin_ingest.rpc.alert_service import AlertService
from tocsin_ingest.rpc.alert_stream import AlertStream
from tocsin_ingest.rpc.integration_service import IntegrationService
from tocsin_ingest.rpc.internal_service import IngestInternalService
from tocsin_ingest.rpc.silence_service import SilenceService
from tocsin_ingest.settings import IngestSettings
from tocsin_ingest.store.alerts.events import KINDS
from tocsin_ingest.wiring.base import REDIS_ERRORS, Base, open_base
from tocsin_ingest.wiring.receivers import serve_receivers
from tocsin_ingest.work.retention import EVERY, Retention


async def build(runtime: Runtime[IngestSettings]) -> Service:
    """Everything ingest is made of."""
    base = open_base(runtime)
    # First: most callers hold a key, and to the others' authenticators it would be a token to take apart.
    runtime.authenticators.insert(0, base.directory)
    _serve_what_every_service_has(base)
    _serve_alerts(base)
    _serve_silences(base)
    _serve_incidents(base)
    close_receivers = serve_receivers(base) if runtime.serves else []
    _add_sweeps(base)
    return Service(close=(*close_receivers, *base.close))


def _serve_what_every_service_has(base: Base) -> None:
    runtime = base.runtime
    serve_keys(runtime, RemoteKeyRecord(base.to_escalation, "escalation"))
    serve_limits(runtime, base.page_tokens, base.redis.commands, REDIS_ERRORS)
    share(runtime, base.limit.budgets, base.redis.commands, SERVICE, REDIS_ERRORS)
    serve_audit(runtime, base.page_tokens)
    OutboxService(
        *(base.db, base.page_tokens, dict.fromkeys(KINDS, IncidentEvent), base.relay.nudge),
        destination="escalation",
        max_age=base.settings.outbox_max_age_seconds,
    ).add_to(runtime.rpc)
    serve_relay(runtime, base.relay)


def _serve_alerts(base: Base) -> None:
    add = base.runtime.rpc.add
    simulation = Simulation(base.db, base.directory, base.budgets)

    def stream(sender: Sender) -> AlertStream:
        return AlertStream(base.intake, sender, base.settings.stream_window, base.runtime.stop)

    add(AlertService(base.intake, base.heartbeats, simulation, base.escalation, base.db, base.page_tokens, stream))
    add(
        IntegrationService(
            *(base.db, base.escalation, base.directory, base.heartbeats, base.page_tokens, base.budgets),
            *(base.settings.mail_domain, base.boxes),
        )
    )


def _serve_silences(base: Base) -> None:
    look_again = Sweep(LOOK_EVERY, LookAgain(base.db, base.directory, base.commits, base.metrics).round)

    def silences_changed(org_id: str) -> None:
        base.directory.silences_changed(org_id)
        look_again.nudge()

    base.runtime.rpc.add(SilenceService(base.db, base.page_tokens, base.budgets, silences_changed))
    base.runtime.loops.add("look-again", look_again)


def _serve_incidents(base: Base) -> None:
    """What the other services ask, and what repairs what they know of incidents."""
    settings, nudge = base.settings, base.relay.nudge
    reconciler = Reconciler(base.db, base.escalation, base.metrics, nudge, grace=settings.reconcile_grace_seconds)
    base.runtime.rpc.add(IngestInternalService(base.db, nudge, reconciler))
    base.runtime.loops.add("reconcile", Sweep(settings.reconcile_seconds, reconciler.round))


def _add_sweeps(base: Base) -> None:
    """What is due without a sender, and what is deleted."""
    settings, loops, nudge = base.settings, base.runtime.loops, base.relay.nudge
    loops.add("quiet", Sweep(settings.quiet_seconds, QuietIncidents(base.db, base.metrics, nudge).round))
    loops.add("endings", Sweep(EXPIRE_EVERY, ExpireAlerts(base.db, base.metrics, nudge).round))
    loops.add("heartbeats", Sweep(HEARTBEATS_EVERY, base.heartbeats.round))
    loops.add("refusals", Sweep(REFUSALS_EVERY, base.refusals.round))
    loops.add("retention", Sweep(EVERY, Retention(base.db, settings.retention_days).sweep))
