"""Replies in the thread of a page at Slack, over real sockets: they become notes of their authors."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

import pytest
from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin_kit.ids import new_id
from tocsin_testkit.slack import Message, SlackServer

from tests.store.notify.phones import PUBLIC
from tests.store.notify.support import World, job, new_org, until
from tests.store.notify.test_chat import running

ANA, BEN, ALERTS = "UANA00001", "UBEN00001", "CALERTS01"
AGAIN = 503


@pytest.fixture
async def slack(world: World) -> AsyncIterator[SlackServer]:
    async with SlackServer(world.inbox) as server:
        server.known |= {ANA, BEN, ALERTS}
        yield server


@dataclass(frozen=True, slots=True)
class Paged:
    """A tenant whose channel was paged about an incident, and where Ana's account is verified; Ben's belongs to no user."""

    world: World
    org: str
    incident: UUID
    message: Message

    @property
    def notes(self) -> list[tuple[str, str]]:
        """Author and text of each note, once, in their order. All are about the incident."""
        once = {each.request_id: each for each in self.world.escalation.responders.answers}
        about = ("note", f"incidents/{self.incident}", "slack")
        assert all((each.action, each.incident, each.via) == about for each in once.values())
        return [(each.who, each.text) for each in once.values()]


@asynccontextmanager
async def paged(world: World, slack: SlackServer) -> AsyncIterator[Paged]:
    org, incident = new_org(), new_id()
    async with running(world, slack) as notify:
        await world.method(org, "users/ana", slack=ANA)
        await world.method(org, "users/ben", slack=BEN, verified=False)
        await world.method(org, "users/team", slack=ALERTS)
        await notify.submit(job(org, incident, user="users/team"))
        await until(lambda: sent(world, org))
        yield Paged(world, org, incident, slack.messages[-1])


async def sent(world: World, org: str) -> bool:
    return set(await world.states("org_id = $1", org)) == {"sent"}


async def test_a_reply_is_one_note_however_often_it_is_told(world: World, slack: SlackServer) -> None:
    async with paged(world, slack) as it:
        written = "see <https://x.example/d|the plot> &amp; ask <@UBEN00001>"
        at_once = await asyncio.gather(*(slack.replies(it.message, written, ANA, id="Ev01") for _ in range(3)))
        async with world.replica(public_url=PUBLIC, **slack.settings()) as other:
            slack.reach[PUBLIC] = f"http://127.0.0.1:{other.runtime.http.port}"
            elsewhere = await slack.replies(it.message, written, ANA, id="Ev01")
            assert [*at_once, elsewhere] == [[200]] * 4
            assert it.notes == [("users/ana", "see the plot (https://x.example/d) & ask @UBEN00001")]
            assert len(world.escalation.responders.answers) == 4
            await slack.replies(it.message, "x" * 40_000, ANA, subtype="thread_broadcast")
            assert it.notes[1:] == [("users/ana", "x" * 4095 + "…")], "also a message that is long"
            evidence = "SELECT evidence, evidence_code FROM attempts WHERE org_id = $1"
            assert dict(await world.admin.fetchrow(evidence, it.org) or {}) == {
                "evidence": "answered",
                "evidence_code": "reply note",
            }
            assert slack.whispers == []


async def test_a_thread_takes_notes_for_longer_than_escalation_knows_a_request_again(
    world: World, slack: SlackServer
) -> None:
    async with paged(world, slack) as it:
        await world.forward(timedelta(days=2))
        later = timedelta(days=2).total_seconds()
        assert await slack.replies(
            it.message, "the cause was a full disk", ANA, at=time.time() + later, age=-later
        ) == [200]
        assert it.notes == [("users/ana", "the cause was a full disk")]
        assert await slack.replies(it.message, "written two days ago", ANA, age=-later) == [200]
        assert len(it.notes) == 1, "it may have been a note before"
        assert "It is not certain" in slack.whispers[0][2]


async def test_what_is_no_reply_of_a_known_person_to_a_page_changes_nothing(world: World, slack: SlackServer) -> None:
    async with paged(world, slack) as it:
        for more in (
            {"bot_id": "B01"},
            {"subtype": "message_changed"},
            {"subtype": "message_deleted"},
            {"subtype": "channel_join"},
            {"thread_ts": "1600000000.000100"},
            {"ts": it.message.ts},
            {"channel": "COTHER001"},
            {"thread_ts": None},
            {"text": " "},
            {"text": None},
            {"user": "\ud800"},
        ):
            assert await slack.tells({**_event(it.message), **more}) == [200], more
        strange: list[object] = [None, 1, [], {"type": "message", "subtype": {}}]
        for event in strange:
            assert await slack.tells(event) == [200], event
        assert slack.whispers == []
        for _ in range(3):
            assert await slack.replies(it.message, "who is on it?", BEN) == [200]
        [(channel, member, text)] = slack.whispers
        assert (channel, member, slack.threads) == (ALERTS, BEN, [it.message.ts]), "told once, in the thread"
        assert "add this account to your contact methods" in text
        assert world.escalation.responders.answers == []


async def test_what_another_provider_calls_a_message_is_no_thread(world: World, slack: SlackServer) -> None:
    other = new_org()
    async with paged(world, slack) as it:
        await world.method(other, "users/ana", slack=ANA)
        # What the owner of a webhook answers is kept as the name of the message.
        await world.admin.execute(
            """WITH page AS (
                 INSERT INTO pages SELECT (jsonb_populate_record(p, jsonb_build_object('id', $2::uuid, 'org_id', $1::text))).*
                 FROM pages p WHERE p.org_id = $3), sent AS (
                 INSERT INTO notifications SELECT (jsonb_populate_record(n, jsonb_build_object(
                   'id', $2::uuid, 'org_id', $1::text, 'page_id', $2::uuid, 'channel', 'webhook'))).*
                 FROM notifications n WHERE n.org_id = $3)
               INSERT INTO attempts (org_id, notification_id, number, provider_id)
               VALUES ($1, $2, 1, 'CALERTS01 1650000000.000100')""",
            other,
            new_id(),
            it.org,
        )
        assert await slack.replies(it.message, "a secret", ANA, thread_ts="1650000000.000100") == [200]
        assert world.escalation.responders.answers == []


async def test_a_reply_is_told_again_until_escalation_takes_it(world: World, slack: SlackServer) -> None:
    async with paged(world, slack) as it:
        answered = world.escalation.responders
        answered.there = False
        assert await slack.replies(it.message, "mine", ANA, id="Ev07", retries=0) == [AGAIN]
        answered.there = True
        assert await slack.replies(it.message, "mine", ANA, id="Ev07") == [200]
        assert (it.notes, slack.whispers) == ([("users/ana", "mine")], [])
        answered.refuses = ErrorReason.ERROR_REASON_SCOPE_MISSING
        assert await slack.replies(it.message, "mine too", ANA) == [AGAIN, AGAIN, AGAIN, 200]
        assert "Send it again" in slack.whispers[-1][2], "Slack does not tell it a fifth time"
        answered.refuses = ErrorReason.ERROR_REASON_INCIDENT_NOT_FOUND
        assert await slack.replies(it.message, "late", ANA) == [200]
        assert "the incident is over" in slack.whispers[-1][2]
        await world.admin.execute("UPDATE pages SET type = 'bundle' WHERE org_id = $1", it.org)
        assert await slack.replies(it.message, "which?", ANA) == [200]
        assert "stands for several incidents" in slack.whispers[-1][2]
        assert len(it.notes) == 1


async def test_an_event_that_slack_did_not_sign_just_now_is_refused(world: World, slack: SlackServer) -> None:
    async with paged(world, slack) as it:
        asked = {"type": "url_verification", "challenge": "3eZbrw1aBm2rZgRNFdxV2595E9CY3gmd", "token": "x"}
        assert await slack.posts_event(asked) == (200, "3eZbrw1aBm2rZgRNFdxV2595E9CY3gmd")
        assert (await slack.posts_event(asked, secret="somebody else's"))[0] == 401
        for how in ({"secret": "somebody else's"}, {"age": 400.0}, {"age": -400.0}, {"body": b"{}"}):
            assert await slack.replies(it.message, "mine", ANA, retries=0, **how) == [401], how
        assert (await slack.posts_event(["no object"]))[0] == 400
        assert (await slack.posts_event({"type": "app_rate_limited"}))[0] == 200
        assert (await slack.posts_event({"x": "x" * 300_000}))[0] == 413
        assert world.escalation.responders.answers == []


def _event(message: Message) -> dict[str, object]:
    return {
        "type": "message",
        "user": ANA,
        "text": "mine",
        "ts": "1700500000.000200",
        "thread_ts": message.ts,
        "channel": message.channel,
    }
