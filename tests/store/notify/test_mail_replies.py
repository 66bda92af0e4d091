"""People answer a page by a reply to its mail, over real sockets; robots, strangers and users who left write as well."""

import asyncio
import re
import smtplib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from email.message import EmailMessage
from email.utils import make_msgid
from typing import Any
from uuid import UUID

import pytest
from pydantic import ValidationError
from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin_kit.ids import new_id
from tocsin_stack.ports import free_port, is_taken
from tocsin_testkit import busy
from tocsin_testkit.mail import text_of
from tocsin_testkit.received import Received

from tests.store.notify.support import Notify, World, job, new_org, reads, until

DOMAIN = "reply.example.com"
ANA = "ana@example.com"


@dataclass(frozen=True, slots=True)
class Paged:
    """Ana's mail about an incident, and the listener."""

    world: World
    org: str
    incident: UUID
    page: Received
    port: int

    @property
    def address(self) -> str:
        return dict(self.page.headers)["Reply-To"]

    @property
    def acted(self) -> list[tuple[str, str, str]]:
        assert all(each.incident == f"incidents/{self.incident}" for each in self.world.escalation.responders.answers)
        return self.world.escalation.responders.acted

    async def replies(
        self,
        text: str,
        *,
        to: str = "",
        sender: str = "ana.private@example.org",
        subtype: str = "plain",
        **headers: str,
    ) -> tuple[int, bytes]:
        """The answer of our server to a mail, as a server of mail gets it."""
        return await asyncio.to_thread(self._deliver, written(text, subtype, **headers), to or self.address, sender)

    def _deliver(self, content: bytes, to: str, sender: str) -> tuple[int, bytes]:
        with smtplib.SMTP("127.0.0.1", self.port, timeout=busy.within(20)) as smtp:
            smtp.ehlo()
            for code, answer in (smtp.mail(sender), smtp.rcpt(to)):
                if code != 250:
                    return code, answer
            return smtp.data(content)

    def told(self) -> Sequence[Received]:
        """What was sent beside the page."""
        return [each for each in self.world.inbox.messages if each.address == ANA and each is not self.page]


def words_of(mail: Received) -> str:
    return text_of(mail).replace("\r\n", "\n")


def written(text: str, subtype: str, **headers: str) -> bytes:
    message = EmailMessage()
    named = {"From": "Ana <ana.private@example.org>", "Subject": "Re: [critical] Disk full", "Message-ID": make_msgid()}
    for name, value in (named | {name.replace("_", "-"): value for name, value in headers.items()}).items():
        message[name] = value
    message.set_content(text, subtype)
    return message.as_bytes()


@asynccontextmanager
async def replica(world: World, **settings: Any) -> AsyncIterator[tuple[Notify, int]]:
    world.escalation.responders.there = True
    port = free_port()
    async with world.replica(mail_listen=f"127.0.0.1:{port}", mail_domain=DOMAIN, **settings) as notify:
        await until(lambda: is_taken(port))
        yield notify, port


@asynccontextmanager
async def paged(world: World, *, language: str = "", **settings: Any) -> AsyncIterator[Paged]:
    """No NOTIFY_PUBLIC_URL: mails come back where nothing else can."""
    org, incident = new_org(), new_id()
    async with replica(world, **settings) as (notify, port):
        await world.method(org, email=ANA)
        if language:
            await reads(notify, org, "users/ana", language)
        await notify.submit(job(org, incident))
        page = await world.inbox.wait_for(lambda each: each.address == ANA, "the page")
        await until(lambda: sent(world, org))
        yield Paged(world, org, incident, page, port)


async def sent(world: World, org: str) -> bool:
    return set(await world.states("org_id = $1", org)) == {"sent"}


async def test_a_reply_answers_for_the_person_and_is_answered(world: World) -> None:
    async with paged(world) as it:
        assert "Or reply to this mail with one word: ack, escalate or resolve" in text_of(it.page)
        quoted = "\n".join(f"> {line}" for line in text_of(it.page).splitlines())
        text = f"Ack!\n\nOn Mon, 30 Nov 2026, Tocsin wrote:\n{quoted}\n"
        for _ in range(2):  # a server that has lost our answer sends it again
            assert await it.replies(text, Message_ID="<1@example.org>") == (250, b"2.0.0 it is read")
        assert it.acted == [("acknowledge", "users/ana", "email")], "sent twice, it acts once"
        row = await world.row("SELECT evidence, evidence_code FROM attempts WHERE org_id = $1", it.org)
        assert tuple(row) == ("answered", "reply acknowledge")
        answer = it.told()[0]
        headers = dict(answer.headers)
        assert words_of(answer) == "Acknowledged.\n\nDisk full on db-1\n"
        assert (headers["Subject"], headers["In-Reply-To"]) == ("Re: Disk full on db-1", "<1@example.org>")
        assert headers["Auto-Submitted"] == "auto-replied"
        assert headers["Reply-To"] == it.address
        assert await it.replies("note the writer hangs\nsince 3\n-- \nAna") == (250, b"2.0.0 it is read")
        assert it.acted[1:] == [("note", "users/ana", "email")]
        assert world.escalation.responders.answers[-1].text == "the writer hangs\nsince 3"


@pytest.mark.parametrize("mark", ["blockquote", "div"])
async def test_a_reply_of_html_alone_says_nothing_of_what_it_quotes(world: World, mark: str) -> None:
    """Its quoted page holds words that would act, and the link by which this person answers: a note is read by everybody."""
    async with paged(world, public_url="https://tocsin.example.com/notify") as it:
        page = words_of(it.page)
        assert "https://tocsin.example.com/notify/p/" in page
        quoted = f"<{mark}>resolve<br>{page.replace(chr(10), '<br>')}</{mark}>"
        head = "On Mon, 30 Nov 2026, Tocsin &lt;page@example.com&gt; wrote:"
        for text in (f"<p>note the writer hangs</p><div>{head}</div>{quoted}", f"<div>{head}</div>{quoted}<p>ack</p>"):
            assert (await it.replies(text, subtype="html"))[0] == 250
        assert world.escalation.responders.answers[0].text == "the writer hangs"
        # Where nothing marks what is quoted it may be the person's own, so nothing is done.
        assert [each[0] for each in it.acted] == ["note", "acknowledge"][: 2 if mark == "blockquote" else 1]


async def test_what_is_not_understood_and_what_is_over_is_said_in_the_language_of_the_person(world: World) -> None:
    async with paged(world, language="de") as it:
        assert "antworten Sie auf diese Mail mit einem Wort" in text_of(it.page)
        assert await it.replies("bin dran") == (250, b"2.0.0 it is read")
        assert it.acted == []
        assert "In der ersten Zeile der Antwort steht weder ack" in words_of(it.told()[-1])
        world.escalation.responders.refuses = ErrorReason.ERROR_REASON_INCIDENT_RESOLVED
        assert (await it.replies("ack"))[0] == 250
        assert "Der Vorfall ist vorbei" in words_of(it.told()[-1])
        world.mail.refuse[ANA] = "550 no such mailbox"
        code, said = await it.replies("ack")
        assert (code, said) == (554, b"5.7.1 Es wurde nichts getan: Der Vorfall ist vorbei."), (
            "then their own server says it"
        )
        world.mail.refuse.clear()


@pytest.mark.parametrize(
    "headers",
    [
        {"Auto_Submitted": "auto-replied"},
        {"Auto_Submitted": "auto-generated"},
        {"Precedence": "bulk"},
        {"X_Autoreply": "yes"},
        {"List_Id": "<people.example.com>"},
        {"Tocsin_Delivery": "k"},
        {"bounce": ""},
    ],
)
async def test_robots_and_bounces_never_act_and_are_answered_nothing(world: World, headers: dict[str, str]) -> None:
    async with paged(world) as it:
        bounce = headers.pop("bounce", None) is not None
        assert (await it.replies("ack", sender="<>" if bounce else ANA, **headers))[0] == 250
        assert (it.acted, it.told()) == ([], [])


async def test_two_machines_that_answer_each_other_come_to_an_end(world: World) -> None:
    async with paged(world) as it:
        codes = [(await it.replies("I am away until Monday."))[0] for _ in range(12)]
        assert codes == [250] * 10 + [554] * 2
        assert len(it.told()) == 10
        assert it.acted == []


async def test_an_address_that_was_not_made_here_is_refused_before_anything_is_read(world: World) -> None:
    async with paged(world) as it:
        word, _, domain = it.address.partition("@")
        other = word[:-2] + ("aa" if word[-2:] != "aa" else "ba")
        for to in (f"{other}@{domain}", f"ana@{domain}", f"@{domain}"):
            assert (await it.replies("ack", to=to))[0] in (550, 553), to
        assert await it.replies("ack", to=f"{word}@example.org") == (
            550,
            b"5.7.1 mails to this domain are not taken here",
        )
        assert (await it.replies("ack", to=it.address.upper()))[0] == 250, "servers may write it in capitals"
        assert it.acted == [("acknowledge", "users/ana", "email")]


async def test_who_has_left_and_who_had_the_mailbox_before_change_nothing(world: World) -> None:
    async with paged(world) as it:
        changed = "UPDATE contact_methods SET address = 'new@example.com', verify_time = app_now() WHERE org_id = $1"
        deleted = (
            "UPDATE contact_methods SET delete_time = app_now(), verify_time = NULL, address = '' WHERE org_id = $1"
        )
        for statement in (changed, deleted):
            await world.admin.execute(statement, it.org)
            assert (await it.replies("ack"))[0] == 554
        assert (it.acted, it.told()) == ([], [])


async def test_a_day_later_nothing_is_done(world: World) -> None:
    """Escalation forgets by then what it has done, and would do it again."""
    async with paged(world) as it:
        await world.forward(timedelta(hours=24))
        assert (await it.replies("ack"))[0] == 250
        assert it.acted == []
        assert "the page is too old" in words_of(it.told()[-1])


async def test_a_reply_waits_at_its_server_while_escalation_is_away(world: World) -> None:
    async with paged(world) as it:
        responders = world.escalation.responders
        responders.there = False
        assert (await it.replies("ack", Message_ID="<1@example.org>"))[0] == 451
        assert it.told() == [], "nothing is said that is not certain"
        responders.there = True
        assert (await it.replies("ack", Message_ID="<1@example.org>"))[0] == 250
        assert it.acted == [("acknowledge", "users/ana", "email")]


async def test_the_listener_ends_with_its_process(world: World, capfd: pytest.CaptureFixture[str]) -> None:
    """Each stop was logged as a loop that had ended by itself, and the listener was begun anew."""
    async with replica(world) as (_, port):
        pass
    assert not is_taken(port)
    said = "".join(capfd.readouterr())
    assert said.count("mail_listening") == 1
    assert "loop_ended_early" not in said


async def test_without_a_domain_no_mail_asks_for_replies(world: World, notify: Notify) -> None:
    org = new_org()
    await world.method(org, email=ANA)
    await notify.submit(job(org))
    page = await world.inbox.wait_for(lambda each: each.address == ANA, "the page")
    assert "Reply-To" not in dict(page.headers)
    assert re.search("reply to this mail", text_of(page)) is None


@pytest.mark.parametrize(
    "settings",
    [{"mail_listen": "127.0.0.1:0"}, {"mail_listen": "127.0.0.1:1", "mail_domain": DOMAIN, "mail_require_tls": True}],
)
async def test_settings_that_cannot_work_are_refused_at_start(world: World, settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="NOTIFY_MAIL_"):
        async with world.replica(**settings):
            pass
