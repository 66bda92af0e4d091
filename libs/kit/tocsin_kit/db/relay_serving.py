"""What a service adds so that a relay runs."""

from typing import TypeVar

from tocsin_kit.db.relay import Relay
from tocsin_kit.db.relay_watch import OutboxWatch
from tocsin_kit.lifecycle import Runtime
from tocsin_kit.rpc.health import HealthCheck
from tocsin_kit.settings import ServiceSettings

S = TypeVar("S", bound=ServiceSettings)


def serve_relay(runtime: Runtime[S], relay: Relay, name: str = "") -> None:
    """Its loop, the loop that measures its outbox, and the health check for late rows (`OUTBOX_MAX_AGE_SECONDS`).

    `name`: of one of several relays of the service. All of it also runs where only calls are served.
    """
    max_age = runtime.settings.outbox_max_age_seconds
    watch = OutboxWatch(runtime.database, relay.kinds, max_age=max_age, metrics=runtime.metrics)
    outbox = f"outbox-{name}" if name else "outbox"
    runtime.loops.add(f"{name}-relay" if name else "relay", relay.run, everywhere=True)
    runtime.loops.add(outbox, watch.sweep, everywhere=True)
    runtime.health.add(HealthCheck(outbox, watch.check, critical=False))
