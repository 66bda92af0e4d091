"""How a mail becomes an alert of each integration it is for."""

import hashlib
import uuid
from collections.abc import Iterable
from typing import Any, Final

from aiosmtpd.smtp import SMTP, Envelope, Session
from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin.ingest.v1.alert_pb2 import AlertInput
from tocsin.ingest.v1.alert_service_pb2 import SendAlertRequest
from tocsin.type.v1.severity_pb2 import SEVERITY_CRITICAL, SEVERITY_INFO, SEVERITY_UNSPECIFIED
from tocsin_kit.budgets import BYTES, RPCS, Budgets
from tocsin_kit.credentials import Credentials
from tocsin_kit.db.pool import Database
from tocsin_kit.errors import TocsinError
from tocsin_kit.ids import id_of
from tocsin_kit.logging import get_logger
from tocsin_kit.mail.reading import Mail
from tocsin_kit.mail.receiver import NOT_OUR_DOMAIN, Receiver, is_bounce, later, line
from tocsin_kit.rpc.failures import masked

from tocsin_ingest.app.alerts.alert_request import Sender
from tocsin_ingest.app.alerts.alert_size import shorten
from tocsin_ingest.app.alerts.refusals import Refusals
from tocsin_ingest.app.alerts.send_alert import AlertIntake
from tocsin_ingest.app.alerts.transient import is_transient
from tocsin_ingest.app.integrations.directory import Directory
from tocsin_ingest.app.integrations.mail_addresses import MailAddresses
from tocsin_ingest.domain.fingerprint import alert_key
from tocsin_ingest.domain.mails import Refusal, about, is_reply, judge, key_of
from tocsin_ingest.domain.message import Action
from tocsin_ingest.http import fit
from tocsin_ingest.store.integrations import mails

_log = get_logger(__name__)
_FORMAT: Final = "mail"
_RECIPIENTS: Final = 10
_KEY_LENGTH: Final = 255
_MAILS: Final = uuid.UUID("0f3a0f2e-3c64-4c0f-9a57-0a6f6b1a2c55")
"""Namespace of the request ids that are made of mails."""
_SEVERITIES: Final = {"high": SEVERITY_CRITICAL, "low": SEVERITY_INFO}
_CREDENTIAL: Final = (ErrorReason.ERROR_REASON_CREDENTIAL_INVALID, ErrorReason.ERROR_REASON_SOURCE_NOT_ALLOWED)


class _Judged(TocsinError):
    """A mail that is refused because of its content."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(ErrorReason.ERROR_REASON_INVALID_FIELD, refusal.value)


class MailReceiver(Receiver):
    """Takes mails to integrations' addresses."""

    def __init__(
        self,
        domain: str,
        database: Database,
        intake: AlertIntake,
        directory: Directory,
        credentials: Credentials,
        budgets: Budgets,
        refusals: Refusals,
    ) -> None:
        super().__init__(domain)
        self._database = database
        self._intake = intake
        self._directory = directory
        self._credentials = credentials
        self._budgets = budgets
        self._refusals = refusals
        self._addresses = MailAddresses(database, directory)

    async def handle_RCPT(self, server: SMTP, session: Session, envelope: Envelope, address: str, _given: Any) -> str:
        """Each recipient. The address itself is not shown or logged: it is a credential."""
        if len(envelope.rcpt_tos) >= _RECIPIENTS:
            return f"452 4.5.3 at most {_RECIPIENTS} recipients; send the others another mail"
        word = self.word_of(address)
        if word is None:
            return NOT_OUR_DOMAIN
        try:
            sender = await self._sender(word, session)
            self._budgets.take(sender.org_id, RPCS)
        except Exception as failure:
            return self._refusal(masked(failure))
        senders: list[Sender] = vars(envelope).setdefault("senders", [])
        if sender not in senders:
            senders.append(sender)
        envelope.rcpt_tos.append("(an integration)")
        return "250 2.1.5 it is taken here"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        """A whole mail. 250 once it is committed for every recipient."""
        mail, size = await self.read(envelope), len(envelope.content or b"")
        bounce = is_bounce(envelope)
        senders: list[Sender] = vars(envelope)["senders"]
        failures = [
            (sender, failure)
            for sender in senders
            if (failure := await self._take(sender, mail, size, bounce=bounce)) is not None
        ]
        for sender, error in failures:
            if isinstance(error, _Judged):
                # No incident: its page would be answered automatically as well.
                self._refusals.count(_FORMAT, error)
            elif not is_transient(error):
                await self._refusals.tell(sender, _FORMAT, 1, error)
        # A recipient that has it already takes a repeat as one.
        passing = next((error for _, error in failures if is_transient(error)), None)
        if passing is not None:
            return self._refusal(passing)
        if len(failures) == len(senders):
            return f"554 5.6.0 {line(failures[0][1].message)}"
        return "250 2.0.0 it is committed"

    async def _sender(self, word: str, session: Session) -> Sender:
        peer = str(session.peer[0]) if session.peer else ""
        return Sender.of(await self._credentials.judge((self._addresses,), word, lambda: peer, way="mail"))

    def _refusal(self, error: TocsinError) -> str:
        if error.reason in _CREDENTIAL:
            self._refusals.count(_FORMAT, error)
            return f"550 5.1.1 {line(error.message)}"
        return later(error)

    async def _take(self, sender: Sender, mail: Mail, size: int, *, bounce: bool) -> TocsinError | None:
        """Why the mail was not taken for this recipient."""
        try:
            self._budgets.take(sender.org_id, BYTES, size)
            integration_id = sender.integration_id or ""
            rules = (await self._directory.routing(sender.org_id, integration_id)).mail
            action = judge(rules, mail, bounce=bounce)
            if isinstance(action, Refusal):
                return _Judged(action)
            thread = await self._thread(sender, integration_id, mail.answers)
            key = thread or fit.key(key_of(rules, about(mail)), _KEY_LENGTH) or "(no subject)"
            answers = thread is not None and is_reply(mail) and action is Action.TRIGGER
            if answers and not await self._is_live(sender, integration_id, key):
                # A text about an alert that is over pages no one.
                _log.info("mail_about_what_is_over", org_id=sender.org_id, integration=integration_id)
                return None
            alert = _alert(mail, action, key)
            request = SendAlertRequest(alert=alert, request_id=_request_id(integration_id, mail, alert))
            await (await self._intake.submit(sender, request))
            if mail.message_id:
                async with self._database.transaction(sender.org_id) as tx:
                    await mails.add(tx, integration_id, _digest(mail.message_id), key)
        except Exception as failure:
            error = masked(failure)
            self._intake.note_refused(sender, error)
            return error
        return None

    async def _thread(self, sender: Sender, integration_id: str, answers: Iterable[str]) -> str | None:
        digests = [_digest(each) for each in answers]
        if not digests:
            return None
        async with self._database.transaction(sender.org_id) as tx:
            return await mails.find(tx, integration_id, digests)

    async def _is_live(self, sender: Sender, integration_id: str, key: str) -> bool:
        async with self._database.transaction(sender.org_id) as tx:
            return await mails.is_live(tx, id_of(alert_key(sender.org_id, integration_id, key)))


def _alert(mail: Mail, action: Action, key: str) -> AlertInput:
    alert = AlertInput(
        action=int(action),  # type: ignore[arg-type] # numbered alike
        dedup_key=key,
        summary=fit.text(about(mail) or "a mail without a subject", fit.SUMMARY),
        source=fit.text(mail.sender, fit.NAME),
        severity=_SEVERITIES.get(mail.importance, SEVERITY_UNSPECIFIED),
        client="E-mail",
    )
    if mail.sender:
        fit.set_labels(alert, {"from": mail.sender})
    details = {"text": mail.text, "date": mail.date, "attachments": list(mail.attachments)}
    fit.set_details(alert, {name: value for name, value in details.items() if value})
    shorten(alert)
    return alert


def _request_id(integration_id: str, mail: Mail, alert: AlertInput) -> str:
    """A mail that is sent again counts once. The content is part of the identity: some programs give all their mails one id."""
    if not mail.message_id:
        return ""
    content = hashlib.sha256(alert.SerializeToString(deterministic=True)).hexdigest()
    return str(uuid.uuid5(_MAILS, f"{integration_id} {content} {mail.message_id}"))


def _digest(message_id: str) -> bytes:
    return hashlib.blake2b(message_id.encode("utf-8", "replace"), digest_size=16).digest()
