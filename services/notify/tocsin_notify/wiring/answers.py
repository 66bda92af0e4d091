"""Everything by which a person answers a page from outside, connected. A part of `wiring`."""

from dataclasses import dataclass

from tocsin_kit.budgets import Budgets
from tocsin_kit.lifecycle import Runtime

from tocsin_notify.app.answers.answer import Answers
from tocsin_notify.app.answers.presses import Presses
from tocsin_notify.app.answers.sms_replies import SmsReplies
from tocsin_notify.app.answers.whole_bundles import WholeBundles
from tocsin_notify.app.chat.slack_commands import SlackCommands
from tocsin_notify.app.chat.slack_replies import SlackReplies
from tocsin_notify.app.contacts.code_limits import CodeLimits
from tocsin_notify.app.contacts.contacts import Contacts
from tocsin_notify.app.contacts.devices import Devices
from tocsin_notify.app.contacts.owner_notices import OwnerNotices
from tocsin_notify.app.delivery.failures import Failures
from tocsin_notify.app.delivery.hints import Hints
from tocsin_notify.app.delivery.receipts import Receipts
from tocsin_notify.app.messages.digest_stops import DigestStops
from tocsin_notify.channels.callbacks import CallbackUrls
from tocsin_notify.channels.links import Links
from tocsin_notify.channels.registry import Registry
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
from tocsin_notify.metrics import NotifyMetrics
from tocsin_notify.settings import NotifySettings
from tocsin_notify.store.cipher import Cipher


@dataclass(frozen=True, slots=True)
class Inside:
    """What the edges act on."""

    failures: Failures
    hints: Hints
    metrics: NotifyMetrics
    contacts: Contacts
    notices: OwnerNotices
    cipher: Cipher
    budgets: Budgets
    code_limits: CodeLimits
    receipts: Receipts
    whole: WholeBundles
    presses: Presses


def serve_answers(
    runtime: Runtime[NotifySettings],
    inside: Inside,
    responders: Responders,
    channels: Registry,
    callbacks: CallbackUrls,
    links: Links,
) -> None:
    """Add the routes of what is set up here. Needs NOTIFY_PUBLIC_URL: people and providers call it."""
    settings, db, add = runtime.settings, runtime.database, runtime.http.add_routes
    receipts, presses = inside.receipts, inside.presses
    answers = Answers(db, responders, inside.whole)
    pushes = bool(settings.vapid.private_key)
    add(AnswerPages(links, answers, devices=pushes).routes())
    add(Buttons(callbacks, presses).routes())
    add(DigestPages(links, DigestStops(db)).routes())
    if pushes:
        devices = Devices(
            db, inside.contacts, inside.notices, inside.cipher, inside.hints, inside.budgets, inside.code_limits
        )
        add(PushReceipts(callbacks, receipts).routes())
        add(DevicePages(links, devices, settings.vapid).routes())
    if settings.telegram_account.secrets:
        add(TelegramUpdates(settings.telegram_account, callbacks, presses).routes())
    slack = channels[Channel.SLACK]
    if settings.slack_account.secrets and isinstance(slack, SlackChannel):
        commands, replies = SlackCommands(db, responders), SlackReplies(db, presses)
        add(slack_routes(settings.slack_account, slack, callbacks, presses, commands, replies))
    if settings.twilio_account.sid:
        signed = SignedByTwilio(settings.twilio_account, settings.public_url)
        add(TwilioMessages(signed, receipts, SmsReplies(db, presses, inside.failures)).routes())
        add(TwilioCalls(signed, receipts, presses).routes())
