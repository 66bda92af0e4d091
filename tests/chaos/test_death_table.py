"""What if it dies here? A row of the table each: one process is stopped inside the transaction in question and killed."""

import asyncio
import smtplib
import time
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage

import aiohttp
import pytest
from google.protobuf.duration_pb2 import Duration
from tocsin.escalation.v1 import incident_pb2
from tocsin.escalation.v1.schedule_pb2 import Override
from tocsin.escalation.v1.schedule_service_pb2 import CreateOverrideRequest, GetScheduleRequest
from tocsin.escalation.v1.shift_notice_service_pb2 import ShiftNoticeSettings, UpdateShiftNoticeSettingsRequest
from tocsin.ingest.v1.alert_service_pb2 import SendHeartbeatRequest
from tocsin.notify.v1 import notification_pb2, notification_service_pb2
from tocsin.notify.v1.digest_pb2 import DIGEST_FREQUENCY_DAILY
from tocsin.notify.v1.digest_service_pb2 import WHEN_EMPTY_ONE_LINE, Digest, ListDigestsRequest, UpdateDigestRequest
from tocsin_ingest.app.integrations.mail_addresses import address_of
from tocsin_testkit.busy import within
from tocsin_testkit.clients import Clients
from tocsin_testkit.tenant import Tenant

from tests.chaos.fleet import MAILS, Breakpoint, Fleet, eventually, insist, tell

pytestmark = pytest.mark.chaos


async def test_ingest_dies_before_it_hands_an_incident_over(fleet: Fleet, tenant: Tenant) -> None:
    [ana] = await tenant.people("ana")
    prom = await tenant.integration(await tenant.policy([ana]))
    # What it does at once gets no answer, and then the row is about to be delivered by the relay.
    async with (
        fleet.breakpoint("escalation", "escalations", "INSERT", _is(tenant)),
        fleet.breakpoint("ingest", "outbox", "UPDATE", _is(tenant)) as point,
    ):
        incident = await prom.triggers("db down")
        died = await _kill(point)
    page = await ana.is_paged(incident)
    tell("ingest dies before it hands an incident over", after_death_ms=round((page.at - died) * 1000))


@pytest.mark.long
async def test_ingest_dies_before_it_notes_that_an_incident_was_taken(fleet: Fleet, tenant: Tenant) -> None:
    [ana] = await tenant.people("ana")
    prom = await tenant.integration(await tenant.policy([ana]))
    async with fleet.breakpoint("ingest", "outbox", "DELETE", _was(tenant)) as point:
        incident = await prom.triggers("db down")
        await _kill(point)
    await ana.is_paged(incident)
    await fleet.orphans_come_due()  # and it is handed over once more
    await fleet.until("ingest", "SELECT NOT EXISTS (SELECT FROM outbox WHERE org_id = $1)", tenant.org_id)


async def test_ingest_dies_while_it_opens_the_incident_of_a_missing_heartbeat(fleet: Fleet, tenant: Tenant) -> None:
    [ana] = await tenant.people("ana")
    ten_minutes = Duration(seconds=600)
    backup = await tenant.integration(await tenant.policy([ana], minutes=600), heartbeat_interval=ten_minutes)
    # Their time is moved by the rows: to replicas that were started lately, the clock's way to ten minutes later is an outage.
    await fleet.until("ingest", "SELECT renew_time > app_now() - interval '10 s' FROM intakes WHERE org_id = '*'")
    database = await fleet.database("ingest")
    async with fleet.breakpoint("ingest", "incidents", "INSERT", _is(tenant)) as point:
        await database.execute("UPDATE intakes SET since = since - interval '1 day' WHERE org_id = '*'")
        late = "UPDATE integrations SET heartbeat_due_time = app_now() WHERE org_id = $1"
        await database.execute(late, tenant.org_id)
        died = await _kill(point)
    await database.close()
    title = "no heartbeat from prometheus for 10 minutes"
    [incident] = await tenant.incidents_titled(title)
    page = await ana.is_paged(incident)
    tell(
        "ingest dies while it opens the incident of a missing heartbeat", after_death_ms=round((page.at - died) * 1000)
    )
    await fleet.heal()
    alerts = Clients(fleet.channels, backup.key).alerts
    assert (await insist(lambda: alerts.SendHeartbeat(SendHeartbeatRequest()))).returned
    await ana.is_told(incident, "resolution")
    assert await tenant.incidents_titled(title) == [incident], "one, whoever has opened it"


async def test_the_end_that_a_sender_named_outlives_every_ingest(fleet: Fleet, tenant: Tenant) -> None:
    """All die as soon as the alert is answered; and once more one does, while it resolves the alert at its end."""
    [ana] = await tenant.people("ana")
    ruler = await tenant.integration(await tenant.policy([ana], minutes=600))
    database = await fleet.database("ingest")
    ends = await database.fetchval("SELECT app_now() + interval '10 minutes'")
    alert = {"labels": {"alertname": "db down"}, "endsAt": ends.isoformat()}
    url = f"{fleet.replicas('ingest')[0].http_url}/api/v2/alerts"
    async with (
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {ruler.key}"}) as http,
        http.post(url, json=[alert]) as answer,
    ):
        fleet.kill("ingest")
        assert answer.status == 200
    await fleet.heal()
    await eventually(lambda: tenant.incidents_titled("db down"), "the incident")
    [incident] = await tenant.incidents_titled("db down")
    await ana.is_paged(incident)
    await fleet.until("ingest", "SELECT renew_time > app_now() - interval '10 s' FROM intakes WHERE org_id = '*'")
    resolves = f"{_is(tenant)} AND NEW.state = 'resolved'"
    async with fleet.breakpoint("ingest", "incidents", "UPDATE", resolves) as point:
        # Moved by the rows, as above.
        await database.execute("UPDATE intakes SET since = since - interval '1 day' WHERE org_id = '*'")
        due = "UPDATE alert_endings SET end_time = app_now() WHERE org_id = $1"
        assert await database.execute(due, tenant.org_id) == "UPDATE 1", "kept by whoever died"
        await _kill(point)
    await database.close()
    await ana.is_told(incident, "resolution")
    assert await tenant.incidents_titled("db down") == [incident]


async def test_ingest_dies_with_a_mail_that_it_has_not_answered(fleet: Fleet, tenant: Tenant) -> None:
    """The mail server of its sender sends it again, to another one, and once more as it got no answer."""
    [ana] = await tenant.people("ana")
    nagios = await tenant.integration(await tenant.policy([ana]))
    mail = EmailMessage()
    mail["Subject"], mail["From"], mail["Message-ID"] = "db down", "nagios@example.com", "<1@example.com>"
    mail["To"] = address_of(nagios.key, MAILS["INGEST_MAIL_DOMAIN"])

    def send(port: int) -> None:
        with smtplib.SMTP("127.0.0.1", port, timeout=within(30)) as smtp:
            smtp.send_message(mail)

    first, second = map(fleet.mail_port, fleet.replicas("ingest"))
    async with fleet.breakpoint("ingest", "alerts", "INSERT", _is(tenant)) as point:
        sending = asyncio.create_task(asyncio.to_thread(send, first))
        await _kill(point)
        with pytest.raises((smtplib.SMTPException, OSError)):
            await sending
    for _ in range(2):
        await asyncio.to_thread(send, second)
    [incident] = await tenant.incidents_titled("db down")
    await ana.is_paged(incident)
    await fleet.until("ingest", "SELECT count(*) = 1 AND sum(count) = 1 FROM alerts WHERE org_id = $1", tenant.org_id)


async def test_escalation_dies_while_it_takes_an_incident(fleet: Fleet, tenant: Tenant) -> None:
    [ana] = await tenant.people("ana")
    prom = await tenant.integration(await tenant.policy([ana]))
    async with fleet.breakpoint("escalation", "escalations", "UPDATE", _is(tenant)) as point:
        incident = await prom.triggers("db down")
        died = await _kill(point)
    page = await ana.is_paged(incident)
    tell("escalation dies while it takes an incident", after_death_ms=round((page.at - died) * 1000))


async def test_escalation_dies_while_it_fires_a_timer(fleet: Fleet, tenant: Tenant) -> None:
    ana, ben = await tenant.people("ana", "ben")
    prom = await tenant.integration(await tenant.policy([ana], [ben], minutes=1 / 60))
    async with fleet.breakpoint("escalation", "escalations", "UPDATE", f"{_is(tenant)} AND NEW.level = 2") as point:
        incident = await prom.triggers("db down")
        await ana.is_paged(incident, level=1)
        died = await _kill(point)
    page = await ben.is_paged(incident, level=2)
    tell("escalation dies while it fires a timer", after_death_ms=round((page.at - died) * 1000))
    await tenant.passes(minutes=5)


async def test_escalation_dies_while_it_sends_a_notice_of_a_shift(fleet: Fleet, tenant: Tenant) -> None:
    """The other replica finds it due: ana is told once."""
    ana, ben = await tenant.people("ana", "ben")
    settings = ShiftNoticeSettings(user=ana.name, hand_over=True)
    request = UpdateShiftNoticeSettingsRequest(shift_notice_settings=settings)
    await ana.own.shift_notices.UpdateShiftNoticeSettings(request)
    schedule = await tenant.schedule("web", ben)
    made = (await tenant.admin.schedules.GetSchedule(GetScheduleRequest(name=schedule))).schedule.create_time
    override = Override(schedule=schedule, users=[ana.name])
    override.start_time.FromSeconds(made.seconds // 60 * 60 + 1800)
    override.end_time.FromSeconds(made.seconds // 60 * 60 + 9000)
    await tenant.admin.schedules.CreateOverride(CreateOverrideRequest(override=override))
    planned = "SELECT EXISTS (SELECT FROM shift_notices WHERE org_id = $1)"
    await fleet.until("escalation", planned, tenant.org_id)
    async with fleet.breakpoint(
        "escalation", "shift_notices", "UPDATE", f"{_is(tenant)} AND NEW.state = 'sent'"
    ) as point:
        await fleet.clock.forward(timedelta(minutes=31))
        died = await _kill(point)
    told = await ana.is_told("", "message")
    assert told.subject == "[message] You are on call now: web"
    tell("escalation dies while it sends a notice of a shift", after_death_ms=round((told.at - died) * 1000))
    await fleet.orphans_come_due()
    await fleet.idle()
    assert ana.told("", "message") == [told]


async def test_notify_dies_while_it_makes_a_digest(fleet: Fleet, tenant: Tenant) -> None:
    """The other replica makes it when its lease has ended: ana reads it once."""
    [ana] = await tenant.people("ana")
    hour = (datetime.now(UTC) + fleet.clock.offset + timedelta(hours=1)).hour
    wanted = Digest(
        user=ana.name,
        frequency=DIGEST_FREQUENCY_DAILY,
        hour=hour,
        time_zone="UTC",
        when_empty=WHEN_EMPTY_ONE_LINE,
    )
    made = (await ana.own.digests.UpdateDigest(UpdateDigestRequest(digest=wanted))).digest
    due = made.next_time.ToDatetime(UTC) - datetime.now(UTC) - fleet.clock.offset
    async with fleet.breakpoint(
        "notify", "digests", "UPDATE", f"{_is(tenant)} AND NEW.latest_result = 'made'"
    ) as point:
        await fleet.clock.forward(due + timedelta(seconds=61))
        await _kill(point)
    await fleet.clock.forward(timedelta(seconds=91))
    told = await ana.is_told("", "digest")
    assert "nothing to tell" in told.subject
    await fleet.orphans_come_due()
    await fleet.idle()
    assert ana.told("", "digest") == [told]
    [after] = (await insist(lambda: ana.own.digests.ListDigests(ListDigestsRequest(user=ana.name)))).digests
    assert (after.latest_time, after.latest_result) == (made.next_time, "made")


@pytest.mark.long
async def test_escalation_dies_with_pages_claimed_and_not_handed_over(fleet: Fleet, tenant: Tenant) -> None:
    """Neither way is open: Redis is away, and so is notify."""
    [ana] = await tenant.people("ana")
    prom = await tenant.integration(await tenant.policy([ana]))
    fleet.kill("notify")
    fleet.valkey.kill()
    incident = await prom.triggers("db down")
    claimed = "SELECT EXISTS (SELECT FROM outbox WHERE org_id = $1 AND kind = 'page' AND attempts > 0)"
    await fleet.until("escalation", claimed, tenant.org_id)
    fleet.kill("escalation")
    await fleet.heal()
    await fleet.leases_run_out()
    await ana.is_paged(incident)


@pytest.mark.long
async def test_escalation_dies_with_pages_handed_over_and_still_leased(fleet: Fleet, tenant: Tenant) -> None:
    [ana] = await tenant.people("ana")
    prom = await tenant.integration(await tenant.policy([ana]))
    async with fleet.breakpoint("escalation", "outbox", "DELETE", f"{_was(tenant)} AND OLD.kind = 'page'") as point:
        incident = await prom.triggers("db down")
        await _kill(point)
    await ana.is_paged(incident)
    await fleet.orphans_come_due()


async def test_escalation_dies_between_an_acknowledge_and_its_answer(fleet: Fleet, tenant: Tenant) -> None:
    """The caller knows nothing, asks again with the same request, and then it holds."""
    ana, _ = await tenant.people("ana", "ben")
    prom = await tenant.integration(await tenant.policy([ana], ["users/ben"]))
    incident = await prom.triggers("db down")
    await ana.is_paged(incident)
    refusals: list[str] = []
    id = "6f1a7f0e-4f6e-4d3c-9f0a-0d6a4c1f7b11"
    # It is committed, and notify cannot confirm it.
    async with fleet.breakpoint("notify", "cancel_fences", "INSERT", _is(tenant)) as point:
        answer = asyncio.create_task(insist(lambda: ana.acknowledges(incident, request_id=id), refusals=refusals))
        await point.reached()
        fleet.kill("escalation")
        await point.let_go()
        await fleet.heal()
        assert (await answer).incident.state == incident_pb2.INCIDENT_STATE_ACKNOWLEDGED
    assert refusals
    await tenant.passes(minutes=30)


@pytest.mark.long
async def test_escalation_dies_before_it_notes_that_an_acknowledge_was_confirmed(fleet: Fleet, tenant: Tenant) -> None:
    """Its person has the answer. The relay of another replica hands the cancellation over once more."""
    ana, _ = await tenant.people("ana", "ben")
    prom = await tenant.integration(await tenant.policy([ana], ["users/ben"]))
    incident = await prom.triggers("db down")
    await ana.is_paged(incident)
    async with fleet.breakpoint("escalation", "outbox", "DELETE", f"{_was(tenant)} AND OLD.kind = 'cancel'") as point:
        await ana.acknowledges(incident)
        await _kill(point)
    none_left = "SELECT NOT EXISTS (SELECT FROM outbox WHERE org_id = $1 AND kind = 'cancel')"
    await fleet.until("escalation", none_left, tenant.org_id)
    await tenant.passes(minutes=30)


@pytest.mark.long
async def test_notify_dies_while_it_stores_a_page(fleet: Fleet, tenant: Tenant) -> None:
    [ana] = await tenant.people("ana")
    prom = await tenant.integration(await tenant.policy([ana]))
    async with fleet.breakpoint("notify", "notifications", "INSERT", _is(tenant)) as point:
        incident = await prom.triggers("db down")
        died = await _kill(point)
    page = await ana.is_paged(incident)
    tell("notify dies while it stores a page", after_death_ms=round((page.at - died) * 1000))
    await fleet.orphans_come_due()


async def test_notify_dies_before_the_provider_answers(fleet: Fleet, tenant: Tenant) -> None:
    """The provider never took it: the page is sent soon after the death, long before its lease is over, and comes once."""
    [ana] = await tenant.people("ana")
    prom = await tenant.integration(await tenant.policy([ana], minutes=60))
    provider = fleet.holds_back(ana.addresses[0])
    fleet.hooks.will_answer(ana.addresses[0], [503])
    incident = await prom.triggers("db down")
    await provider.reached()
    fleet.kill("notify")
    provider.answers()
    await eventually(lambda: _refused(fleet, ana.addresses[0]), "the provider threw the request away")
    assert ana.pages(incident) == []
    died = time.monotonic()
    await fleet.heal()
    page = await ana.is_paged(incident)
    tell("notify dies before the provider answers", after_death_ms=round((page.at - died) * 1000))
    assert len((await _notification(tenant, incident)).attempts) == 2


async def test_notify_dies_between_the_providers_yes_and_its_own_note(fleet: Fleet, tenant: Tenant) -> None:
    """The one place where a page may come twice: it does, under the same key, and never not at all."""
    [ana] = await tenant.people("ana")
    prom = await tenant.integration(await tenant.policy([ana], minutes=60))
    async with fleet.breakpoint("notify", "attempts", "UPDATE", f"{_is(tenant)} AND NEW.outcome = 'sent'") as point:
        incident = await prom.triggers("db down")
        first = await ana.is_paged(incident)
        (await point.reached()).kill()
    await fleet.orphans_come_due()
    again = await ana.is_paged(incident)
    assert again.key == first.key
    await fleet.idle()
    assert (await _notification(tenant, incident)).state == notification_pb2.NOTIFICATION_STATE_SENT


async def test_everything_dies_in_the_middle_of_an_escalation(fleet: Fleet, tenant: Tenant) -> None:
    """The power is back, and the escalation continues where it was: no user is paged again, and the next level is paged."""
    ana, ben = await tenant.people("ana", "ben")
    prom = await tenant.integration(await tenant.policy([ana], [ben], minutes=5))
    incident = await prom.triggers("db down")
    await ana.is_paged(incident, level=1)
    await fleet.idle()
    fleet.kill(*fleet.stack.services)
    fleet.valkey.kill()
    fleet.postgres.kill()
    await fleet.heal()
    await tenant.passes(minutes=5)
    await ben.is_paged(incident, level=2)
    await tenant.passes(minutes=5)


async def test_the_clock_jumps_an_hour(fleet: Fleet, tenant: Tenant) -> None:
    """What is overdue is paged at once; who is paged late has the whole time to answer."""
    ana, ben, cem = await tenant.people("ana", "ben", "cem")
    prom = await tenant.integration(await tenant.policy([ana], [ben], [cem], minutes=5))
    incident = await prom.triggers("db down")
    await ana.is_paged(incident, level=1)
    await tenant.passes(minutes=60)
    await ben.is_paged(incident, level=2)
    await tenant.passes(minutes=4)
    assert cem.pages(incident) == []
    await tenant.passes(minutes=1)
    await cem.is_paged(incident, level=3)
    await tenant.passes(minutes=60)


async def _kill(point: Breakpoint) -> float:
    """SIGKILL to the process that stops there; returns when that was."""
    (await point.reached()).kill()
    return time.monotonic()


def _is(tenant: Tenant) -> str:
    return f"NEW.org_id = '{tenant.org_id}'"


def _was(tenant: Tenant) -> str:
    return f"OLD.org_id = '{tenant.org_id}'"


async def _refused(fleet: Fleet, address: str) -> bool:
    return any(path == address for path, _ in fleet.hooks.refused)


async def _notification(tenant: Tenant, incident: str) -> notification_pb2.Notification:
    """The only one of an incident. A replica that was killed may not be back yet."""
    calls = tenant.admin.notifications
    of = notification_service_pb2.ListNotificationsRequest(incident=incident)
    [found] = (await insist(lambda: calls.ListNotifications(of))).notifications
    of_it = notification_service_pb2.GetNotificationRequest(name=found.name)
    return (await insist(lambda: calls.GetNotification(of_it))).notification  # type: ignore[no-any-return]
