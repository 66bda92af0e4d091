"""A provider fails for many at once: pages take the next method without waiting, and every user still gets a page."""

import uuid
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
import structlog
from tocsin.escalation.v1 import internal_service_pb2 as escalation_pb
from tocsin.notify.v1 import contact_service_pb2 as contact_pb
from tocsin.notify.v1 import notification_pb2 as pb
from tocsin_notify.app.delivery.conclude import Conclude
from tocsin_notify.domain.page import Channel
from tocsin_notify.store.delivery import candidates
from tocsin_testkit.twilio import TwilioServer, error

from tests.store.notify.support import Notify, World, bearer, job, new_org, until

HOUR: dict[str, Any] = {"backoff_base_seconds": 3600.0, "backoff_cap_seconds": 3600.0}
"""A page that waited for another attempt would wait for 54 minutes (`long_waits`)."""
NO_PROBE: dict[str, Any] = {"circuit_probe_seconds": 600.0}
PACE = timedelta(seconds=61)
"""By then what went around has been due again."""


@pytest.fixture(autouse=True)
def long_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Full jitter may be close to nothing: then an attempt would follow that no test here expects."""
    defaults = Conclude.__init__.__kwdefaults__
    assert defaults is not None
    monkeypatch.setitem(defaults, "chance", lambda: 0.9)


def number(index: int) -> str:
    return f"+49151100000{index:02}"


def mail(index: int) -> str:
    return f"u{index}@example.com"


async def person(world: World, notify: Notify, org: str, index: int) -> str:
    """A text message at once, and a mail five minutes later if there is no answer."""
    user = f"users/u{index}"
    sms = await world.method(org, user, sms=number(index))
    email = await world.method(org, user, email=mail(index))
    await notify.set_rules(org, user, (pb.URGENCY_HIGH, sms, 0), (pb.URGENCY_HIGH, email, 300))
    return user


async def outage(world: World, notify: Notify, twilio: TwilioServer, org: str, many: int = 5) -> list[uuid.UUID]:
    """Text messages fail for so many people, each of whom is paged for an incident of their own."""
    incidents = [uuid.uuid4() for _ in range(many)]
    for index, incident in enumerate(incidents):
        twilio.refuse[number(index)] = [error(503, 20503) for _ in range(100)]
        user = await person(world, notify, org, index)
        await notify.submit(job(org, incident, user=user))
        await until(partial(refused, twilio, number(index)))
    return incidents


def refused(twilio: TwilioServer, address: str) -> bool:
    return len(twilio.refuse[address]) < 100


def circuits_open(notify: Notify, channel: str = "sms") -> float | None:
    return notify.runtime.metrics.registry.get_sample_value("tocsin_notify_circuits_open", {"channel": channel})


async def closed(notify: Notify) -> None:
    """The text that a test waits for may be at the stand-in before its call has ended here."""
    await until(lambda: circuits_open(notify) == 0)


async def mailed(world: World, *indices: int) -> None:
    await until(lambda: all(world.arrived(mail(index)) == 1 for index in indices))


async def test_pages_take_the_next_method_without_waiting_and_the_text_follows_when_the_provider_is_back(
    world: World, twilio: TwilioServer
) -> None:
    org = new_org()
    async with world.replica(**twilio.settings(), **HOUR, **NO_PROBE) as notify:
        with structlog.testing.capture_logs() as lines:
            await outage(world, notify, twilio, org)
            await mailed(world, *range(5))
            before = twilio.requests
            await notify.submit(job(org, user=await person(world, notify, org, 5)))
            await mailed(world, 5)
            assert twilio.requests == before, "nobody waits for a provider that fails for many"
        assert [line["reason"] for line in lines if line["event"] == "circuit_opened"] == [
            "503 20503 refused by the stand-in (the provider is unavailable)"
        ]
        row = await world.row(
            "SELECT state, state_reason, attempts FROM notifications WHERE channel = 'sms' AND tries = 0"
        )
        assert (row["state"], row["attempts"]) == ("pending", 0)
        assert row["state_reason"].startswith("sms fails for many at present, so contactMethods/")
        health = notify.runtime.health
        await until(lambda: health.report()["providers"].startswith("ProvidersFail: sms has failed for many for "))
        assert health.serving, "an outage elsewhere takes no replica out of service"
        metrics = notify.runtime.metrics.registry
        assert circuits_open(notify) == 1
        assert metrics.get_sample_value("tocsin_notify_went_around_total", {"channel": "sms"}) == 6
        assert await world.admin.fetchval("SELECT count(*) FROM dead_letters") == 0

        twilio.refuse.clear()
        await notify.submit(job(org, user=await texted_only(world, org)))  # one who has nothing else tries it
        await closed(notify)
        await world.forward(PACE)
        await until(lambda: all(len(twilio.to(number(index))) == 1 for index in range(6)))
        assert all(world.arrived(mail(index)) == 1 for index in range(6))


async def test_a_page_that_another_session_holds_keeps_no_other_page_waiting(
    world: World, twilio: TwilioServer
) -> None:
    org = new_org()
    async with world.replica(**twilio.settings(), **HOUR, **NO_PROBE) as notify:
        await outage(world, notify, twilio, org, many=4)
        twilio.refuse[number(4)] = [error(503, 20503) for _ in range(100)]
        user = await person(world, notify, org, 4)
        await until(partial(all_wait, world, 4))
        async with world.admin.transaction():
            await world.admin.execute("SELECT FROM pages WHERE user_id = 'users/u0' FOR NO KEY UPDATE")
            await notify.submit(job(org, user=user))
            await mailed(world, 1, 2, 3, 4)
            assert world.arrived(mail(0)) == 0
        await mailed(world, 0)


async def test_what_was_tried_before_is_found_in_parts_earliest_due_first(world: World, twilio: TwilioServer) -> None:
    org = new_org()
    async with world.replica(**twilio.settings(), **HOUR, circuit_failures=0) as notify:
        await outage(world, notify, twilio, org, many=5)
        await until(partial(all_wait, world, 5))
        expected = [
            row["id"]
            for row in await world.admin.fetch("SELECT id FROM notifications WHERE tries > 0 ORDER BY due_time, id")
        ]
        found, last = list[uuid.UUID](), (datetime(1970, 1, 1, tzinfo=UTC), uuid.UUID(int=0))
        async with notify.runtime.database.system() as tx:
            for many in (2, 2, 1):
                part, following = await candidates.tried_before(tx, [Channel.SMS], *last, 2)
                assert len(part) == many
                found += [each.id for each in part]
                assert (following is None) == (many < 2)
                last = following or last
        assert found == expected


async def all_wait(world: World, many: int) -> bool:
    return await world.states("channel = 'sms' AND tries > 0") == ["pending"] * many


async def texted_only(world: World, org: str, index: int = 50) -> str:
    user = f"users/u{index}"
    await world.method(org, user, sms=number(index))
    return user


async def test_a_user_with_that_one_method_is_tried_and_the_answer_closes_it(
    world: World, twilio: TwilioServer
) -> None:
    org = new_org()
    async with world.replica(**twilio.settings(), **HOUR, **NO_PROBE) as notify:
        await outage(world, notify, twilio, org)
        await mailed(world, *range(5))
        with structlog.testing.capture_logs() as lines:
            await notify.submit(job(org, user=await texted_only(world, org)))
            await until(lambda: any(line["event"] == "circuit_closed" for line in lines))
        assert len(twilio.to(number(50))) == 1


async def test_one_probe_goes_on_and_its_person_waits_for_nothing(world: World, twilio: TwilioServer) -> None:
    org = new_org()
    async with world.replica(**twilio.settings(), **HOUR, circuit_probe_seconds=0.01) as notify:
        await outage(world, notify, twilio, org)
        await mailed(world, *range(5))
        twilio.hang.add(number(7))
        hanging = await person(world, notify, org, 7)
        sent = 0

        async def probed() -> bool:
            nonlocal sent
            sent += await notify.submit(job(org, user=hanging))
            return len([id for id in await world.states("channel = 'sms' AND state = 'sending'") if id]) > 0

        await until(probed)  # the probe hangs, and stays the only one
        await until(lambda: world.arrived(mail(7)) == sent)
        twilio.answers()


async def test_a_probe_that_is_served_closes_it(world: World, twilio: TwilioServer) -> None:
    org = new_org()
    async with world.replica(**twilio.settings(), **HOUR, circuit_probe_seconds=0.01) as notify:
        await outage(world, notify, twilio, org)
        await mailed(world, *range(5))
        user = await person(world, notify, org, 7)

        async def served() -> bool:
            await notify.submit(job(org, user=user))
            return bool(twilio.to(number(7)))

        await until(served)
        await closed(notify)


async def test_what_went_around_is_stopped_like_everything_that_waits(world: World, twilio: TwilioServer) -> None:
    org = new_org()
    async with world.replica(**twilio.settings(), **HOUR, **NO_PROBE) as notify:
        incidents = await outage(world, notify, twilio, org)
        await mailed(world, *range(5))
        for incident in incidents[1:]:
            await notify.cancel(org, incident)
        twilio.refuse.clear()
        await notify.submit(job(org, user=await texted_only(world, org)))
        await until(lambda: len(twilio.to(number(50))) == 1)
        await closed(notify)
        await world.forward(PACE)
        await until(lambda: len(twilio.to(number(0))) == 1)
        assert {message.fields["To"] for message in twilio.messages} == {number(0), number(50)}


async def test_a_policy_that_repeats_through_an_outage_rings_once_after_it(world: World, twilio: TwilioServer) -> None:
    org = new_org()
    async with world.replica(**twilio.settings(), **HOUR, **NO_PROBE) as notify:
        [first, *_] = await outage(world, notify, twilio, org)
        await mailed(world, *range(5))
        again = job(org, first, user="users/u0", type=pb.NOTIFICATION_TYPE_ESCALATION, generation=1, repeat=1)
        await notify.submit(again)
        await until(lambda: world.arrived(mail(0)) == 2)
        twilio.refuse.clear()
        await notify.submit(job(org, user=await texted_only(world, org)))
        await until(lambda: len(twilio.to(number(50))) == 1)
        await closed(notify)
        await world.forward(PACE)
        await until(lambda: all(twilio.to(number(index)) for index in range(5)))
        assert len(twilio.to(number(0))) == 1


async def test_when_the_method_that_took_over_fails_too_the_page_goes_on(world: World, twilio: TwilioServer) -> None:
    org = new_org()
    async with world.replica(**twilio.settings(), **HOUR, **NO_PROBE) as notify:
        await outage(world, notify, twilio, org)
        await mailed(world, *range(5))
        user = await person(world, notify, org, 6)
        await world.method(org, user, webhook="u6")
        world.mail.refuse[mail(6)] = "550 no such user"
        await notify.submit(job(org, user=user))
        await until(lambda: world.arrived("u6") == 1)
        letter = await world.row("SELECT detail FROM dead_letters")
        assert letter["detail"].startswith("550 no such user")
        states = await world.admin.fetch("SELECT channel, state FROM notifications WHERE user_id = $1", user)
        assert {(row["channel"], row["state"]) for row in states} >= {("sms", "pending"), ("email", "dead")}


async def test_a_page_that_went_around_and_is_taken_by_no_provider_is_said_to_be_delayed(
    world: World, twilio: TwilioServer
) -> None:
    org = new_org()
    async with world.replica(**twilio.settings(), **NO_PROBE) as notify:
        await outage(world, notify, twilio, org)
        await until(lambda: circuits_open(notify) == 1)
        twilio.refuse[number(6)] = [error(503, 20503) for _ in range(100)]
        world.mail.refuse[mail(6)] = "550 no such user"
        page = job(org, user=await person(world, notify, org, 6))
        with structlog.testing.capture_logs() as lines:
            await notify.submit(page)
            await until(lambda: delayed(world, page.page))
        assert [line["event"] for line in lines].count("notification_tried_on") == 1
        before = twilio.requests
        await world.forward(PACE)
        await until(lambda: twilio.requests > before)
        await until(partial(all_tried, world, 6))
        assert len(delayed(world, page.page)) == 1, "said once"


def delayed(world: World, page: str) -> list[escalation_pb.PageOutcome]:
    kind = escalation_pb.PAGE_OUTCOME_KIND_DELAYED
    return [each for each in world.escalation.outcomes if each.kind == kind and each.page == page]


async def all_tried(world: World, tries: int) -> bool:
    """Whether the person whose text went around waits for another try after so many."""
    where = "user_id = 'users/u6' AND channel = 'sms' AND tries >= $1"
    return await world.states(where, tries) == ["pending"]


async def test_a_test_page_goes_through_and_proves_that_it_is_mended(world: World, twilio: TwilioServer) -> None:
    org = new_org()
    async with world.replica(**twilio.settings(), **HOUR, **NO_PROBE) as notify:
        await outage(world, notify, twilio, org)
        await mailed(world, *range(5))
        sms = await world.method(org, "users/operator", sms=number(60))
        request = contact_pb.SendTestPageRequest(user="users/operator", contact_method=f"contactMethods/{sms}")
        await notify.contacts.SendTestPage(request, metadata=bearer(org))
        await until(lambda: len(twilio.to(number(60))) == 1)
        await closed(notify)


@pytest.mark.parametrize(("failures", "window"), [(5, 6 * 3600.0), (5, 0.0), (0, 6 * 3600.0)])
async def test_a_host_that_fails_for_one_tenant_is_open_for_that_tenant_alone(
    world: World, failures: int, window: float
) -> None:
    """Also where pages end with their attempts: who is tried on slowly is another matter than who goes around."""
    org, other = new_org(), new_org()
    async with world.replica(**HOUR, **NO_PROBE, circuit_failures=failures, retry_window_seconds=window) as notify:
        for index in range(5):
            user = f"users/u{index}"
            hook = await world.method(org, user, webhook=f"hook{index}")
            email = await world.method(org, user, email=mail(index))
            await notify.set_rules(org, user, (pb.URGENCY_HIGH, hook, 0), (pb.URGENCY_HIGH, email, 300))
            world.hooks.will_answer(f"hook{index}", [503] * 100)
            await notify.submit(job(org, user=user))
        await until(lambda: len({path for path, _ in world.hooks.refused}) == 5)
        await world.method(other, webhook="other")
        await world.method(other, email="other@example.com", verified=False)
        await notify.submit(job(other))
        await until(lambda: world.arrived("other") == 1)
        if failures:
            await mailed(world, *range(5))
        else:
            assert not any(world.arrived(mail(index)) for index in range(5))
        assert len(world.hooks.refused) == 5
