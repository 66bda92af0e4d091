"""Every RPC, called by one tenant with the names of another one's resources: nothing is shown and nothing changes."""

import asyncio
import re
from collections.abc import Iterator
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.timestamp_pb2 import Timestamp
from tocsin.credentials.v1 import credential_service_pb2 as cp
from tocsin.escalation.v1 import calendar_service_pb2, incident_pb2, schedule_pb2, schedule_service_pb2, swap_pb2
from tocsin.escalation.v1.reminder_service_pb2 import CreateReminderRequest, Reminder
from tocsin.ingest.v1.integration_service_pb2 import LabelMatcher, MatchOperator
from tocsin.ingest.v1.silence_service_pb2 import CreateSilenceRequest, Silence
from tocsin.notify.v1 import message_service_pb2 as pb_message
from tocsin.notify.v1 import subscription_service_pb2 as pb_subscription
from tocsin.notify.v1 import template_service_pb2 as pb_template
from tocsin.notify.v1.digest_pb2 import DIGEST_FREQUENCY_DAILY
from tocsin.notify.v1.digest_service_pb2 import Digest, UpdateDigestRequest
from tocsin.notify.v1.notification_pb2 import NOTIFICATION_TYPE_RESOLUTION
from tocsin.notify.v1.recurring_message_service_pb2 import CreateRecurringMessageRequest
from tocsin_kit.errors import TocsinError
from tocsin_kit.rpc.validation import validate
from tocsin_stack import tokens
from tocsin_testkit.busy import until
from tocsin_testkit.inbox import PATIENCE
from tocsin_testkit.tenant import Tenant
from tocsin_testkit.world import World

from tests.abuse.messages import Messages
from tests.abuse.rpcs import RPCS, Answer, Rpc, bearer

MARK = "only-of-the-first-tenant"
NAME = re.compile(r"[A-Za-z]+/[A-Za-z0-9._-]+")
PUBLIC = [rpc for rpc in RPCS if not rpc.spans and not rpc.method.client_streaming]
READS = [rpc for rpc in PUBLIC if not rpc.mutates]
ABSENT = {"NOT_FOUND", "PERMISSION_DENIED"}
"""What a request for a resource that is not the caller's must end with."""
_AT_ONCE = 4
"""Lists. The server reserves memory for each answer that is not read yet, and one connection may not have all of it."""
OF_SOMETHING = {"ListDeliveries", "ListTimeline", "ListShifts", "ListCoverage", "ListShiftNotices", "ListFollowers"}
"""Lists that cannot be had without saying of what."""
ECHOES = {
    "CreateContactMethod",
    "GetNotificationRules",
    "UpdateNotificationRules",
    "GetNotificationSettings",
    "UpdateNotificationSettings",
    "UpdateDigest",
}
"""They answer with the user's name as it was given: notify does not know users, and each tenant may give any name."""


async def everything(world: World, org_id: str) -> dict[str, bytes]:
    """What a tenant's lists show."""
    token = world.token(org_id, tokens.ADMINISTRATOR)
    lists = [rpc for rpc in READS if rpc.method.name.startswith("List") and rpc.method.name not in OF_SOMETHING]
    some = asyncio.Semaphore(_AT_ONCE)

    async def answer_to(rpc: Rpc) -> Answer:
        async with some:
            return await rpc.call(world, b"", bearer(token))

    answers = await asyncio.gather(*map(answer_to, lists))
    assert {answer.code for answer in answers} == {"OK"}, [*zip(map(str, lists), map(str, answers), strict=True)]
    return {str(rpc): answer.data for rpc, answer in zip(lists, answers, strict=True)}


@pytest.fixture(scope="module")
async def first(world: World) -> Tenant:
    """A tenant with one of everything, each with a mark in its texts."""
    tenant = world.tenant()
    [ana] = await tenant.people(MARK)
    team = await tenant.team(MARK, ana)
    schedule = await tenant.schedule(MARK, ana)
    made = (await tenant.admin.schedules.GetSchedule(schedule_service_pb2.GetScheduleRequest(name=schedule))).schedule
    minute = made.create_time.seconds // 60 * 60
    await tenant.admin.schedules.CreateOverride(
        schedule_service_pb2.CreateOverrideRequest(
            override=schedule_pb2.Override(
                schedule=schedule,
                start_time=Timestamp(seconds=minute + 86400),
                end_time=Timestamp(seconds=minute + 90000),
                users=[ana.name],
                reason=MARK,
            )
        )
    )
    times: Any = {"start_time": Timestamp(seconds=minute + 86400), "end_time": Timestamp(seconds=minute + 90000)}
    period = schedule_pb2.FixedPeriod(schedule=schedule, reason=MARK, **times)
    await tenant.admin.schedules.CreateFixedPeriod(schedule_service_pb2.CreateFixedPeriodRequest(fixed_period=period))
    absence = schedule_pb2.Absence(user=ana.name, reason=MARK, **times)
    await tenant.admin.schedules.CreateAbsence(schedule_service_pb2.CreateAbsenceRequest(absence=absence))
    day: Any = {"start_time": Timestamp(seconds=minute + 172800), "end_time": Timestamp(seconds=minute + 180000)}
    swap = swap_pb2.Swap(schedule=schedule, user=ana.name, offered=swap_pb2.SwapStretch(**day), reason=MARK)
    await tenant.admin.schedules.CreateSwap(schedule_service_pb2.CreateSwapRequest(swap=swap))
    layer = calendar_service_pb2.CalendarImport(
        schedule=schedule, url="https://calendar.example/a.ics", display_name=MARK
    )
    made_import = await tenant.admin.calendars.CreateCalendarImport(
        calendar_service_pb2.CreateCalendarImportRequest(calendar_import=layer)
    )
    of = calendar_service_pb2.GetCalendarImportRequest(name=made_import.calendar_import.name)

    async def was_fetched() -> bool:
        return bool((await tenant.admin.calendars.GetCalendarImport(of)).calendar_import.error)

    await until(was_fetched)
    feed = calendar_service_pb2.CalendarFeed(schedule=schedule, display_name=MARK)
    await tenant.admin.calendars.CreateCalendarFeed(calendar_service_pb2.CreateCalendarFeedRequest(calendar_feed=feed))
    account = cp.CreateServiceAccountRequest(
        service_account_id=MARK, service_account=cp.ServiceAccount(display_name=MARK)
    )
    bot = (await tenant.admin.credentials.CreateServiceAccount(account)).service_account.name
    key = cp.ApiKey(service_account=bot, display_name=MARK, scopes=["alerts:read"])
    await tenant.admin.credentials.CreateApiKey(cp.CreateApiKeyRequest(api_key=key))
    await tenant.admin.credentials.RevokeTokens(cp.RevokeTokensRequest(token_id=MARK, reason=MARK))
    matcher = LabelMatcher(label="job", operator=MatchOperator.MATCH_OPERATOR_EQUAL, value=MARK)
    silence = CreateSilenceRequest(silence=Silence(matchers=[matcher], reason=MARK), duration=Duration(seconds=86400))
    await tenant.admin.silences.CreateSilence(silence)
    policy = await tenant.policy([ana, team, schedule], name=MARK)
    sender = await tenant.integration(policy)
    incident = await sender.triggers(MARK, dedup_key=MARK)
    tenant.expected(await ana.is_paged(incident))
    reminder = Reminder(incident=incident, user=ana.name, text=MARK)
    await tenant.admin.reminders.CreateReminder(CreateReminderRequest(reminder=reminder, delay=Duration(seconds=86400)))
    message = pb_message.Message(user=ana.name, text=MARK, send_time=times["end_time"])
    await tenant.admin.messages.SendMessage(pb_message.SendMessageRequest(message=message))
    hook = pb_subscription.Subscription(display_name=MARK, url=world.hooks.url(MARK), disabled=True)
    system = world.clients(tenant.org_id, subject=ana.name).subscriptions
    name = (
        await system.CreateSubscription(pb_subscription.CreateSubscriptionRequest(subscription=hook))
    ).subscription.name
    await system.TestSubscription(pb_subscription.TestSubscriptionRequest(name=name))
    template = pb_template.Template(type=NOTIFICATION_TYPE_RESOLUTION, text=MARK)
    await tenant.admin.templates.CreateTemplate(pb_template.CreateTemplateRequest(template=template))
    recurring = CreateRecurringMessageRequest(
        message=pb_message.Message(user=ana.name, text=MARK),
        start=pb_message.LocalTime(date_time="2026-01-01T09:00", time_zone="Europe/Berlin"),
        rule="FREQ=YEARLY",
    )
    await tenant.admin.recurring_messages.CreateRecurringMessage(recurring)
    daily = Digest(user=ana.name, frequency=DIGEST_FREQUENCY_DAILY, time_zone="Europe/Berlin")
    await tenant.admin.digests.UpdateDigest(UpdateDigestRequest(digest=daily))
    await reached(tenant, incident)
    await world.idle()
    return tenant


async def reached(tenant: Tenant, incident: str) -> None:
    """Waits until the page's outcome has come back from notify: it changes the incident as late as that.

    Each snapshot of the tenant before it would differ from each one after it.
    """
    async with asyncio.timeout(PATIENCE):
        while (await tenant.incident(incident)).reached != incident_pb2.REACHED_SOMEBODY:
            await asyncio.sleep(0.02)


@pytest.fixture(scope="module")
async def names(world: World, first: Tenant) -> dict[str, str]:
    """A name of each kind of the first tenant's resources, by collection."""
    shown = await everything(world, first.org_id)
    types = {str(rpc): GetMessageClass(rpc.method.output_type) for rpc in READS}
    found = {text.partition("/")[0]: text for rpc, data in shown.items() for text in texts(types[rpc].FromString(data))}
    of = pb_subscription.ListDeliveriesRequest(subscription=found["subscriptions"])
    [ping] = (await world.clients(first.org_id).subscriptions.ListDeliveries(of)).deliveries
    letter = f"deadLetters/{found['notifications'].partition('/')[2]}"
    return {"deliveries": ping.name, "deadLetters": letter, "outboxMessages": "outboxMessages/1", **found}


def texts(message: Message) -> Iterator[str]:
    """Every resource name in a message."""
    for field, value in message.ListFields():
        for each in value if field.is_repeated else (value,):
            if isinstance(each, Message):
                yield from texts(each)
            elif isinstance(each, str) and NAME.fullmatch(each):
                yield each


def test_the_first_tenant_has_one_of_everything(names: dict[str, str]) -> None:
    wanted = {"alerts", "contactMethods", "incidents", "integrations", "notifications", "policies", "teams", "users"}
    wanted |= {
        "absences",
        "fixedPeriods",
        "overrides",
        "schedules",
        "swaps",
        "serviceAccounts",
        "apiKeys",
        "tokenRevocations",
        "calendarFeeds",
        "calendarImports",
        "messages",
        "recurringMessages",
        "reminders",
        "subscriptions",
        "deliveries",
        "templates",
    }
    assert wanted <= set(names)


async def attempts(world: World, rpc: Rpc, org_id: str, names: dict[str, str]) -> list[Answer]:
    """Answers to well-formed requests that name the first tenant's resources."""
    metadata = bearer(world.token(org_id, tokens.ADMINISTRATOR))
    requests = {Messages((str(rpc), number), names).request(rpc.method.input_type) for number in range(8)}
    if "name" in rpc.method.input_type.fields_by_name or "names" in rpc.method.input_type.fields_by_name:
        requests |= set(each_name(rpc, names))
    return await asyncio.gather(*(rpc.call(world, request, metadata) for request in requests))


def each_name(rpc: Rpc, names: dict[str, str]) -> Iterator[bytes]:
    """With each name that the contract takes there, and with one that it does not take: tests/contract tries the others."""
    refused = False
    for request in with_each_name(rpc, names):
        valid = is_valid(request)
        if valid or not refused:
            yield request.SerializeToString()
        refused = refused or not valid


def is_valid(request: Message) -> bool:
    try:
        validate(request)
    except TocsinError:
        return False
    return True


def with_each_name(rpc: Rpc, names: dict[str, str]) -> Iterator[Message]:
    field = rpc.method.input_type.fields_by_name.get("name") or rpc.method.input_type.fields_by_name["names"]
    for name in names.values():
        request: Any = GetMessageClass(rpc.method.input_type)()
        request.ParseFromString(Messages(str(rpc), names).request(rpc.method.input_type))
        request.ClearField(field.name)
        if {"start_time", "end_time"} <= set(rpc.method.input_type.fields_by_name):
            request.start_time.FromSeconds(1_700_000_000)
            request.end_time.FromSeconds(1_700_003_600)
        if "shift_notice" in rpc.method.input_type.fields_by_name:
            request.ClearField("shift_notice")  # of messages alone: beside most templates it is refused
        setattr(request, "name", name) if field.name == "name" else request.names.append(name)
        yield request


@pytest.mark.parametrize("service", sorted({rpc.service for rpc in PUBLIC}))
async def test_anothers_resources_are_out_of_reach(
    world: World, first: Tenant, names: dict[str, str], service: str
) -> None:
    before = await everything(world, first.org_id)
    for rpc in PUBLIC:
        if rpc.service == service:
            refuses_anothers(rpc, await attempts(world, rpc, world.tenant().org_id, names), names)
    assert await everything(world, first.org_id) == before


def refuses_anothers(rpc: Rpc, answers: list[Answer], names: dict[str, str]) -> None:
    for answer in answers:
        assert answer.code not in ("INTERNAL", "UNKNOWN", "UNAUTHENTICATED"), (str(rpc), answer)
        shown = answer.data.lower()
        if rpc.method.name in ECHOES:
            shown = shown.replace(names["users"].encode(), b"")
        assert answer.code != "OK" or MARK.encode() not in shown, (str(rpc), answer)
    if "name" in rpc.method.input_type.fields_by_name:
        # The others are INVALID_ARGUMENT: names of another kind than the method takes.
        wrong = {answer.code for answer in answers} - {"INVALID_ARGUMENT"} - ABSENT
        assert not wrong, (str(rpc), [*map(str, answers)])
        absent = [answer.code in ABSENT or answer.reason.endswith("_NOT_FOUND") for answer in answers]
        assert any(absent), (str(rpc), [*map(str, answers)])


@pytest.mark.parametrize("rpc", [rpc for rpc in READS if "name" in rpc.method.input_type.fields_by_name], ids=str)
async def test_the_same_requests_show_the_tenant_its_own(
    world: World, first: Tenant, names: dict[str, str], rpc: Rpc
) -> None:
    """Otherwise the sweep would prove nothing."""
    answers = await attempts(world, rpc, first.org_id, names)
    kinds = ("GetDeadLetter", "GetMessage")  # of which a healthy tenant has none
    assert rpc.method.name in kinds or any(answer.code == "OK" for answer in answers), [*map(str, answers)]
