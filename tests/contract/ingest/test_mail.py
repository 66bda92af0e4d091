"""Mails to the addresses of integrations, by smtplib over real sockets."""

import asyncio
import contextlib
import random
import smtplib
import ssl
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import psutil  # type: ignore[import-untyped]
import pytest
from tocsin.ingest.v1.alert_pb2 import ALERT_STATE_FIRING, ALERT_STATE_RESOLVED
from tocsin.ingest.v1.alert_service_pb2_grpc import AlertServiceStub
from tocsin.ingest.v1.integration_service_pb2 import (
    DeleteIntegrationRequest,
    Integration,
    RotateIntegrationKeyRequest,
    SignatureCheck,
    UpdateIntegrationRequest,
)
from tocsin.ingest.v1.integration_service_pb2_grpc import IntegrationServiceStub
from tocsin.type.v1.severity_pb2 import SEVERITY_CRITICAL
from tocsin_stack.ports import free_port, is_taken
from tocsin_stack.postgres import Postgres
from tocsin_testkit import busy

from tests.certificates import make_certificates
from tests.contract.ingest.mails import DOMAIN, Mails, deliver, session, written
from tests.store.ingest.support import FakeEscalation, Ingest, bearer, running


@pytest.fixture(scope="module")
async def mail_ingest(postgres: Postgres, escalation: FakeEscalation) -> AsyncIterator[tuple[Ingest, int]]:
    """One replica that takes mails. Shared: every test is another tenant."""
    url = await postgres.clone_database("tocsin_ingest", "ingest_mails")
    async with taking_mails(url, escalation, mail_command_seconds=busy.within(1.5)) as started:
        yield started


@contextlib.asynccontextmanager
async def taking_mails(url: str, escalation: FakeEscalation, **settings: Any) -> AsyncIterator[tuple[Ingest, int]]:
    port = free_port()
    listen = {"mail_listen": f"127.0.0.1:{port}", "mail_domain": DOMAIN, "mail_max_bytes": 1 << 17}
    async with running(url, escalation.target, **listen, mail_max_connections=16, **settings) as ingest:
        await busy.until(lambda: is_taken(port))
        yield ingest, port


@pytest.fixture
async def mails(mail_ingest: tuple[Ingest, int]) -> Mails:
    made = Mails(*mail_ingest)
    await made.integration()
    return made


async def test_a_mail_is_an_alert_once_it_is_answered(mails: Mails) -> None:
    assert await mails.send("Disk full on db-1", "98 % of /var", Importance="high") == (250, b"2.0.0 it is committed")
    [alert] = await mails.alerts()
    assert (alert.dedup_key, alert.summary, alert.state) == (
        "disk full on db-1",
        "Disk full on db-1",
        ALERT_STATE_FIRING,
    )
    assert (alert.source, alert.severity) == ("nagios@example.com", SEVERITY_CRITICAL)
    assert dict(alert.labels) == {"from": "nagios@example.com"}
    assert alert.details["text"] == "98 % of /var"
    # The address is a credential: only those who were given it have it.
    assert mails.address.partition("@")[0] not in str(alert)


async def test_a_mail_that_is_sent_again_counts_once(mails: Mails) -> None:
    for _ in range(2):
        assert (await mails.send("Disk full", Message_ID="<one@example.com>"))[0] == 250
    assert [each.count for each in await mails.alerts()] == [1]
    # Some programs give all their mails one id: what they say tells them apart.
    assert (await mails.send("Disk full", "99 %", Message_ID="<one@example.com>"))[0] == 250
    assert [each.count for each in await mails.alerts()] == [2]


async def test_mails_without_a_subject_are_known_by_their_first_line(mails: Mails) -> None:
    for text in ("disk full\non db-1", "smoke\nin room 3", "Disk  full\non db-2", ""):
        assert (await mails.send("", text))[0] == 250
    alerts = {alert.dedup_key: (alert.summary, alert.count) for alert in await mails.alerts()}
    assert alerts == {
        "disk full": ("Disk full", 2),
        "smoke": ("smoke", 1),
        "(no subject)": ("a mail without a subject", 1),
    }


async def test_a_mail_resolves_by_the_rules_of_its_integration(mails: Mails) -> None:
    await mails.integration(resolve_subject="^RECOVERY:", open_subject="^PROBLEM:")
    assert (await mails.send("PROBLEM: disk full"))[0] == 250
    assert (await mails.send("RECOVERY: disk full"))[0] == 250
    [alert] = await mails.alerts()
    assert (alert.dedup_key, alert.state) == ("disk full", ALERT_STATE_RESOLVED)
    code, answer = await mails.send("Your invoice")
    assert (code, b"neither the rule for mails that open nor" in answer) == (554, True)
    assert len(await mails.alerts()) == 1


async def test_a_problem_that_becomes_worse_and_recovers_is_one_alert(mails: Mails) -> None:
    """Recorded from Icinga 2.13, whose subjects end with the state, with exim before Tocsin."""
    await mails.integration(
        resolve_subject=r"^\[RECOVERY\] (?P<about>.*) is \w+!$", open_subject=r"^\[PROBLEM\] (?P<about>.*) is \w+!$"
    )
    for state in ("WARNING", "CRITICAL"):
        assert (await mails.send(f"[PROBLEM] disk /var on db-1 (Köln) is {state}!"))[0] == 250
    [alert] = await mails.alerts()
    assert (alert.dedup_key, alert.count) == ("disk /var on db-1 (köln)", 2)
    assert (await mails.send("[RECOVERY] disk /var on db-1 (Köln) is OK!"))[0] == 250
    assert [each.state for each in await mails.alerts()] == [ALERT_STATE_RESOLVED]


async def test_an_answer_is_about_the_alert_of_the_mail_that_it_answers(mails: Mails) -> None:
    await mails.integration(resolve_body="(?i)^solved")
    assert (await mails.send("Disk full", Message_ID="<first@example.com>"))[0] == 250
    # Of another subject, and by way of a mail in between.
    answers = {"In_Reply_To": "<unknown@example.com>", "References": "<first@example.com> <unknown@example.com>"}
    assert (await mails.send("What is this?", Message_ID="<second@example.com>", **answers))[0] == 250
    [alert] = await mails.alerts()
    assert (alert.dedup_key, alert.count) == ("disk full", 2)
    assert (await mails.send("Done", "Solved.", In_Reply_To="<second@example.com>"))[0] == 250
    assert [each.state for each in await mails.alerts()] == [ALERT_STATE_RESOLVED]
    # A text about an alert that is over pages no one. A program that threads its next problem below the last one does.
    assert (await mails.send("Re: Disk full", "Thanks!", In_Reply_To="<first@example.com>"))[0] == 250
    assert [each.state for each in await mails.alerts()] == [ALERT_STATE_RESOLVED]
    assert (await mails.send("Disk full", "again", In_Reply_To="<first@example.com>"))[0] == 250
    assert [each.state for each in await mails.alerts()] == [ALERT_STATE_RESOLVED, ALERT_STATE_FIRING]


async def test_pages_of_our_own_bounces_and_automatic_answers_open_nothing(mails: Mails) -> None:
    assert (await mails.send("Disk full", Tocsin_Delivery="d-1"))[0] == 554
    assert (await mails.send("Out of office", Auto_Submitted="auto-replied"))[0] == 554
    bounce = written("Undelivered Mail Returned to Sender")
    code, _ = await session(mails.port, lambda smtp: deliver(smtp, mails.address, bounce, sender=""))
    assert code == 554
    # Nor do they open an incident about what was refused: its page would be answered automatically, too.
    assert await mails.alerts() == []
    assert (await mails.send("Cron <root@db-1> backup", Auto_Submitted="auto-generated"))[0] == 250
    await mails.integration(take_automatic=True)
    code, _ = await session(mails.port, lambda smtp: deliver(smtp, mails.address, bounce, sender=""))
    assert (code, len(await mails.alerts())) == (250, 2)


async def test_an_address_works_as_long_as_the_key_that_it_is_made_of(mails: Mails) -> None:
    old = mails.address
    assert mails.address.endswith(f"@{DOMAIN}")
    request = RotateIntegrationKeyRequest(name=mails.name)
    rotated = await mails.ingest.integrations.RotateIntegrationKey(request, metadata=bearer(mails.org))
    assert rotated.mail_address not in ("", old)
    word = rotated.mail_address.partition("@")[0]
    assert word not in rotated.key.lower()
    assert rotated.key.removeprefix("tik_").lower() not in word
    async with asyncio.timeout(busy.within(10)):
        while (refused := await mails.send("a"))[0] == 250:  # every replica notices within a second
            continue
    assert refused[0] == 550
    mails.address = rotated.mail_address.upper()  # as some mail servers write it
    assert (await mails.send("b"))[0] == 250
    await mails.ingest.integrations.DeleteIntegration(
        DeleteIntegrationRequest(name=mails.name), metadata=bearer(mails.org)
    )
    async with asyncio.timeout(busy.within(10)):
        while (refused := await mails.send("c"))[0] == 250:
            continue
    assert refused[0] in (550, 554)


async def test_an_integration_that_asks_for_signatures_takes_no_mails(mails: Mails) -> None:
    wanted = Integration(name=mails.name, signature=SignatureCheck(header="X-Signature", secret="correct horse"))
    await mails.ingest.integrations.UpdateIntegration(
        UpdateIntegrationRequest(integration=wanted), metadata=bearer(mails.org)
    )
    assert (await mails.send("Disk full"))[0] == 554
    assert [each.dedup_key for each in await mails.alerts()] == ["tocsin-refused-alerts"]


async def test_who_guesses_addresses_is_slowed_down_and_no_other_sender(mails: Mails) -> None:
    def guess(smtp: smtplib.SMTP) -> list[int]:
        smtp.ehlo()
        codes = []
        for number in range(90):
            smtp.mail("spam@example.com")
            codes.append(smtp.rcpt(f"{number:032d}@{DOMAIN}".replace("0", "a").replace("1", "b"))[0])
            smtp.rset()
        return codes

    codes: list[int] = []
    async with asyncio.timeout(busy.within(60)):
        while 451 not in codes:
            codes += await session(mails.port, guess, host="127.0.0.7")
    assert set(codes) == {550, 451}
    assert (await mails.send("from elsewhere"))[0] == 250


async def test_what_is_too_much_is_said_so(mails: Mails) -> None:
    large = written("large", "x" * 76 + "\n") + b"y" * 200_000
    assert (await session(mails.port, lambda smtp: deliver(smtp, mails.address, large)))[0] == 552

    def told_before(smtp: smtplib.SMTP) -> tuple[int, bytes]:
        smtp.ehlo()
        return smtp.mail("a@example.com", [f"size={len(large)}"])

    assert (await session(mails.port, told_before))[0] == 552

    def many(smtp: smtplib.SMTP) -> list[int]:
        smtp.ehlo()
        smtp.mail("a@example.com")
        return [smtp.rcpt(mails.address)[0] for _ in range(11)]

    assert await session(mails.port, many) == [250] * 10 + [452]

    def elsewhere(smtp: smtplib.SMTP) -> tuple[int, bytes]:
        return deliver(smtp, "somebody@example.net", b"")

    assert (await session(mails.port, elsewhere))[0] == 550
    assert await mails.alerts() == []


async def test_long_lines_dots_and_broken_parts_are_taken(mails: Mails) -> None:
    for number, text in enumerate(("z" * 5000, "..\r\n.\r\n.. dots", "\N{SNOWMAN}", "")):
        content = f"Subject: s{number}\r\n\r\n{text}".encode()
        assert (await session(mails.port, partial(deliver, address=mails.address, content=content)))[0] == 250
    texts = [dict(each.details).get("text", "") for each in await mails.alerts()]
    assert texts == ["z" * 5000, "..\n.\n.. dots", "\N{SNOWMAN}", ""]


async def test_one_mail_goes_to_each_integration_that_it_is_for(mails: Mails) -> None:
    first = mails.address
    await mails.integration()

    def both(smtp: smtplib.SMTP) -> dict[str, Any]:
        return smtp.sendmail("a@example.com", [first, mails.address, f"nobody@{DOMAIN}"], written("for both"))

    assert list(await session(mails.port, both)) == [f"nobody@{DOMAIN}"]
    assert [each.summary for each in await mails.alerts()] == ["for both", "for both"]


async def test_silent_clients_are_let_go_and_one_host_does_not_take_all_room(mails: Mails) -> None:
    async with asyncio.timeout(busy.within(60)):
        silent = [await asyncio.open_connection("127.0.0.1", mails.port, local_addr=("127.0.0.8", 0)) for _ in range(8)]
        for reader, writer in silent:
            assert (await reader.readline()).startswith(b"220 ")
            writer.write(b"NOOP\r\n")
        reader, refused = await asyncio.open_connection("127.0.0.1", mails.port, local_addr=("127.0.0.8", 0))
        assert (await reader.readline()).startswith(b"421 4.3.2 too many")
        refused.close()
        assert (await mails.send("from elsewhere"))[0] == 250
        started = [await mails.starts_a_mail("127.0.0.9") for _ in range(2)]
        assert [answer[:3] for _, _, answer in started] == [b"354", b"451"]
        for reader, writer in [*silent, *(each[:2] for each in started)]:
            said = await reader.read()  # up to its end
            writer.close()
            assert said.startswith(b"421 4.4.2") == (reader is started[0][0]), said


async def test_a_connection_lasts_as_long_as_the_setting_says(
    database_url: str, escalation: FakeEscalation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Far shorter than a client may be silent."""
    monkeypatch.setenv("INGEST_MAIL_SESSION_SECONDS", "0.2")
    monkeypatch.setenv("INGEST_MAIL_COMMAND_SECONDS", "600")
    async with taking_mails(database_url, escalation) as (_, port), asyncio.timeout(busy.within(30)):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await reader.read()  # up to its end
        writer.close()


async def test_noise_is_answered_and_costs_nothing(mails: Mails, caplog: pytest.LogCaptureFixture) -> None:
    """No 5xx for our fault, no connection lost while a client speaks, and memory stays as it was."""
    made = random.Random(7)
    commands = (
        b"EHLO x",
        b"MAIL FROM:<a@b>",
        b"MAIL FROM:<>",
        b"RCPT TO:<%s>",
        b"DATA",
        b"RSET",
        b"NOOP",
        b"VRFY x",
        b"HELP",
    )
    bodies = (
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n",
        b"\xff\0",
        b"Subject: ",
        b"\r\n",
        b"x" * 3000,
    )
    memory = psutil.Process().memory_info().rss
    for number in range(30):
        lines = [made.choice(commands).replace(b"%s", mails.address.encode()) for _ in range(8)]
        # A mail that is whole but odd.
        lines += [b"RSET", b"EHLO x", b"MAIL FROM:<a@b>", b"RCPT TO:<" + mails.address.encode() + b">", b"DATA"]
        lines += [
            b"".join(made.choices(bodies, k=made.randrange(8))) + made.randbytes(20).replace(b"\r\n.", b""),
            b".",
            b"QUIT",
        ]
        if number % 3 == 0:
            lines.insert(made.randrange(4), made.randbytes(50) + b"y" * made.choice((0, 2000)))
        reader, writer = await asyncio.open_connection("127.0.0.1", mails.port, local_addr=(f"127.0.1.{number + 1}", 0))
        writer.write(b"\r\n".join(lines) + b"\r\n")
        async with asyncio.timeout(busy.within(20)):
            answers = await reader.read()
        writer.close()
        assert b"\n451 4.3.0" not in answers
        assert answers.endswith((b"221 Bye\r\n", b"goodbye.\r\n")), answers
    assert psutil.Process().memory_info().rss - memory < 30 << 20
    assert "Traceback" not in caplog.text


async def test_a_mail_waits_for_its_database(database_url: str, escalation: FakeEscalation) -> None:
    """451 while nothing can be committed, and no 250 for what was not."""
    async with taking_mails(database_url, escalation) as (ingest, port):
        mails = Mails(ingest, port)
        await mails.integration()
        await ingest.database.close()
        code, answer = await mails.send("Disk full")
        assert (code, answer.startswith(b"4.3.2")) == (451, True), answer


async def test_mails_come_over_tls_where_that_is_wanted(
    database_url: str,
    escalation: FakeEscalation,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    made = make_certificates(tmp_path)
    files = {"tls_cert_file": str(made.certificate), "tls_key_file": str(made.key)}
    async with taking_mails(database_url, escalation, mail_require_tls=True, **files) as (ingest, port):
        credentials = grpc.ssl_channel_credentials(made.authority.read_bytes())
        async with grpc.aio.secure_channel(f"127.0.0.1:{ingest.runtime.rpc.port}", credentials) as channel:
            ingest.integrations, ingest.alerts = IntegrationServiceStub(channel), AlertServiceStub(channel)
            mails = Mails(ingest, port)
            await mails.integration()
            assert (await mails.send("in the clear"))[0] == 530

            def over_tls(smtp: smtplib.SMTP) -> tuple[int, bytes]:
                smtp.starttls(context=ssl.create_default_context(cafile=str(made.authority)))
                assert not smtp.has_extn("auth")
                return deliver(smtp, mails.address, written("over TLS"))

            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"EHLO x\r\nSTARTTLS\r\n")
            await reader.readuntil(b"220 Ready to start TLS\r\n")
            writer.write(b"no TLS at all, for quite a while\r\n" * 20)
            await reader.read()
            writer.close()
            assert "internal_error" not in "".join(capfd.readouterr()) + caplog.text
            assert (await session(port, over_tls))[0] == 250
            assert [each.summary for each in await mails.alerts()] == ["over TLS"]


async def test_commands_that_come_before_tls_are_dropped(
    database_url: str, escalation: FakeEscalation, tmp_path: Path
) -> None:
    """Else who sits between could put words of theirs before those of the client (RFC 3207, section 6)."""
    made = make_certificates(tmp_path)
    files = {"tls_cert_file": str(made.certificate), "tls_key_file": str(made.key)}
    trusting = ssl.create_default_context(cafile=str(made.authority))
    async with taking_mails(database_url, escalation, **files) as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"EHLO x\r\nSTARTTLS\r\nMAIL FROM:<eve@example.com>\r\nNOOP\r\n")
        await reader.readuntil(b"220 Ready to start TLS\r\n")
        await writer.start_tls(trusting, server_hostname="127.0.0.1")
        writer.write(b"NOOP\r\nEHLO x\r\nRCPT TO:<x@example.com>\r\nQUIT\r\n")
        noop, *hello, rcpt, _ = (await reader.read()).decode().splitlines()
        assert noop == "250 OK"
        assert hello[0].startswith("250-")
        assert hello[-1].startswith("250 ")
        assert rcpt.startswith("503 "), "there is no sender"
        writer.close()
