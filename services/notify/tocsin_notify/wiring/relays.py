"""Builds the relays that report page outcomes to escalation: one for each kind, so that none waits for the other. A
part of `wiring`."""

from collections.abc import Callable
from typing import Final

import grpc
from tocsin_kit.db.outbox import Relay
from tocsin_kit.db.relay import GiveWay, Sets
from tocsin_kit.db.relay_serving import serve_relay
from tocsin_kit.lifecycle import Runtime

from tocsin_notify.clients.escalation import Escalation
from tocsin_notify.settings import NotifySettings
from tocsin_notify.store.delivery.outcomes import NOT_REACHED, SENT
from tocsin_notify.work.relay import OutcomeDelivery

_SENT_AT_ONCE: Final = 100
"""In a storm, thousands of pages were sent with one message. Escalation applies a set as one transaction, beside which
pages go on."""


class OutcomeRelays:
    """The relays of this process."""

    def __init__(
        self,
        runtime: Runtime[NotifySettings],
        escalation: Escalation,
        channel: grpc.aio.Channel,
        *,
        busy: Callable[[], bool],
    ) -> None:
        """`channel`: the one that `escalation` uses. `busy`: whether pages wait, which are sent before outcomes are
        reported."""
        max_bytes, deliver = runtime.settings.grpc_max_message_bytes // 2, OutcomeDelivery(escalation).deliver
        self._not_reached, self._sent = (
            Relay(
                runtime.database,
                deliver,
                kinds=[kind],
                sets=Sets(rows, max_bytes, parallel),
                channel=channel,
                metrics=runtime.metrics,
                give_way=GiveWay(busy, patient),
            )
            for kind, rows, parallel, patient in ((NOT_REACHED, 200, 4, False), (SENT, _SENT_AT_ONCE, 1, True))
        )
        self._named: Final = {"not-reached": self._not_reached, "sent": self._sent}

    def nudge(self) -> None:
        """A page was not reached. Sent pages are reported with the next round."""
        self._not_reached.nudge()

    def nudge_all(self) -> None:
        """A row of any kind may be due."""
        for relay in self._named.values():
            relay.nudge()

    def add_loops(self, runtime: Runtime[NotifySettings]) -> None:
        """Add the loops of each relay, and the check that tells when it is late."""
        for name, relay in self._named.items():
            serve_relay(runtime, relay, name)
