"""The relays from escalation to notify: one for each kind, so that none waits for another. A part of `wiring`."""

from typing import Final

import grpc
from tocsin_kit.db.outbox import Relay
from tocsin_kit.db.relay import Sets
from tocsin_kit.db.relay_serving import serve_relay
from tocsin_kit.lifecycle import Runtime

from tocsin_escalation.app.incidents.incident_events import EVENT
from tocsin_escalation.app.incidents.jobs import CANCEL, PAGE, USER
from tocsin_escalation.app.notices.notice_jobs import NOTICE
from tocsin_escalation.clients.notify import Notify
from tocsin_escalation.settings import EscalationSettings
from tocsin_escalation.work.relay import NotifyDelivery
from tocsin_escalation.work.substitute import less_of_cancellation, less_of_event, less_of_notice, less_of_page


class Relays:
    """The relays of this process."""

    def __init__(self, runtime: Runtime[EscalationSettings], notify: Notify, channel: grpc.aio.Channel) -> None:
        """`channel`: the one that `notify` calls through."""
        sets = Sets(max_bytes=runtime.settings.grpc_max_message_bytes // 2)
        self.delivery: Final = NotifyDelivery(notify)
        self.page, self.cancel, self.event, self.notice = (
            Relay(
                runtime.database,
                deliver,
                kinds=kinds,
                sets=sets,
                channel=channel,
                substitute=substitute,
                metrics=runtime.metrics,
            )
            for kinds, deliver, substitute in (
                ([PAGE], self.delivery.pages, less_of_page),
                ([CANCEL], self.delivery.cancellations, less_of_cancellation),
                ([EVENT], self.delivery.events, less_of_event),
                ([NOTICE, USER], self.delivery.notices, less_of_notice),
            )
        )
        self._named: Final = {"page": self.page, "cancel": self.cancel, "event": self.event, "notice": self.notice}

    def nudge(self) -> None:
        """A row of any kind may be due."""
        for relay in self._named.values():
            relay.nudge()

    def add_loops(self, runtime: Runtime[EscalationSettings]) -> None:
        """Add the loops of each relay, and the check that tells when it is late."""
        for name, relay in self._named.items():
            serve_relay(runtime, relay, name)
