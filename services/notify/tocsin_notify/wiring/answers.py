"""Builds all that people answer pages with from outside. A part of `wiring`."""

from collections.abc import Sequence
from typing import Final

from tocsin.notify.v1.internal_service_pb2 import Cancellation
from tocsin_kit.rpc.client import channel
from tocsin_kit.rpc.tls import client_credentials

from tocsin_notify.app.answers.answer import Answers
from tocsin_notify.app.answers.presses import Presses
from tocsin_notify.app.answers.sms_replies import SmsReplies
from tocsin_notify.app.answers.whole_bundles import WholeBundles
from tocsin_notify.app.chat.slack_commands import SlackCommands
from tocsin_notify.app.chat.slack_replies import SlackReplies
from tocsin_notify.app.contacts.devices import Devices
from tocsin_notify.app.delivery.people_first import PeopleFirst
from tocsin_notify.app.delivery.receipts import Receipts
from tocsin_notify.app.messages.digest_stops import DigestStops
from tocsin_notify.app.pages.cancel import Cancel, fences_of
from tocsin_notify.channels.slack import SlackChannel
from tocsin_notify.clients.responders import Responders
from tocsin_notify.domain.page import Channel
from tocsin_notify.http.answer import AnswerPages
from tocsin_notify.http.buttons import Buttons
from tocsin_notify.http.devices import DevicePages
from tocsin_notify.http.digest_page import DigestPages
from tocsin_notify.http.push_receipts import PushReceipts
from tocsin_notify.http.slack_commands import slack_routes
from tocsin_notify.http.telegram import TelegramUpdates
from tocsin_notify.http.twilio import SignedByTwilio, TwilioMessages
from tocsin_notify.http.twilio_calls import TwilioCalls
from tocsin_notify.wiring.base import Base
from tocsin_notify.wiring.people import People


class Answering:
    """One object per process. Calls to escalation carry no credential of this service: each carries that of the person
    who answers.
    """

    def __init__(self, base: Base, people: People, cancel: Cancel, first: PeopleFirst) -> None:
        async def stop(cancellations: Sequence[Cancellation]) -> None:
            await cancel(fences_of(cancellations))

        settings = base.settings
        self._base = base
        self._people = people
        self._to_escalation = channel(
            settings.escalation_target, service_name="escalation", tls=client_credentials(settings)
        )
        self._responders = Responders(self._to_escalation, settings.signing_keys, stop, first)
        self._receipts = Receipts(base.db, base.failures, base.hints, base.metrics)
        self._bundles = WholeBundles(base.db, self._responders, cancel)
        self.presses: Final = Presses(base.db, self._responders, self._receipts, self._bundles)

    def add_routes(self) -> None:
        """Routes of the channels that are configured. They need NOTIFY_PUBLIC_URL: people and providers call it."""
        base, db, settings, links = self._base, self._base.db, self._base.settings, self._base.links
        add, callbacks, receipts, presses = base.runtime.http.add_routes, base.callbacks, self._receipts, self.presses
        pushes = bool(settings.vapid.private_key)
        add(AnswerPages(links, Answers(db, self._responders, self._bundles), devices=pushes).routes())
        add(Buttons(callbacks, presses).routes())
        add(DigestPages(links, DigestStops(db)).routes())
        if pushes:
            add(PushReceipts(callbacks, receipts).routes())
            add(DevicePages(links, self._devices(), settings.vapid).routes())
        if settings.telegram_account.secrets:
            add(TelegramUpdates(settings.telegram_account, callbacks, presses).routes())
        slack = base.channels[Channel.SLACK]
        if settings.slack_account.secrets and isinstance(slack, SlackChannel):
            commands, replies = SlackCommands(db, self._responders), SlackReplies(db, presses)
            add(slack_routes(settings.slack_account, slack, callbacks, presses, commands, replies))
        if settings.twilio_account.sid:
            signed = SignedByTwilio(settings.twilio_account, settings.public_url)
            add(TwilioMessages(signed, receipts, SmsReplies(db, presses, base.failures)).routes())
            add(TwilioCalls(signed, receipts, presses).routes())

    async def close(self) -> None:
        """Drop the connection."""
        await self._to_escalation.close()

    def _devices(self) -> Devices:
        base, people = self._base, self._people
        return Devices(
            base.db, people.contacts, people.notices, base.cipher, base.hints, base.budgets, people.code_limits
        )
