"""Digests: made once by any number of processes, late or left out after an outage, and sent after all other messages."""

import re
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy

import aiohttp
import pytest
from tocsin.escalation.v1.internal_service_pb2 import SummarizeForDigestsResponse
from tocsin.notify.v1 import digest_pb2
from tocsin.notify.v1 import digest_service_pb2 as pb
from tocsin.type.v1 import weekday_pb2
from tocsin_notify.app.messages.make_digests import BEHIND
from tocsin_notify.domain.page import DIGESTS

from tests.store.notify.messages import ANA, HOUR
from tests.store.notify.support import Notify, World, bearer, job, new_org, reads, until

DAY = timedelta(days=1)
DAILY, WEEKLY = digest_pb2.DIGEST_FREQUENCY_DAILY, digest_pb2.DIGEST_FREQUENCY_WEEKLY
_MAIL = "ana@example.com"
PUBLIC = "https://tocsin.example.com"


class Reader:
    """Ana, who wants digests."""

    def __init__(self, notify: Notify, world: World, org: str) -> None:
        self.org = org
        self._stub = notify.digests
        self._world = world
        self._metadata = bearer(org)

    async def wants(self, frequency: digest_pb2.DigestFrequency.ValueType = DAILY, **fields: object) -> pb.Digest:
        digest = pb.Digest(user=ANA, frequency=frequency, **{"hour": 8, "time_zone": "Europe/Berlin", **fields})  # type: ignore[arg-type]
        request = pb.UpdateDigestRequest(digest=digest)
        made: pb.Digest = (await self._stub.UpdateDigest(request, metadata=self._metadata)).digest
        return made

    async def has(self) -> pb.Digest:
        """The one that she has."""
        [found] = (await self._stub.ListDigests(pb.ListDigestsRequest(user=ANA), metadata=self._metadata)).digests
        one: pb.Digest = found
        return one

    async def has_any(self) -> bool:
        """Whether she has one."""
        return bool((await self._stub.ListDigests(pb.ListDigestsRequest(user=ANA), metadata=self._metadata)).digests)

    async def previews(self) -> pb.PreviewDigestResponse:
        request = pb.PreviewDigestRequest(user=ANA, frequency=DAILY)
        answer: pb.PreviewDigestResponse = await self._stub.PreviewDigest(request, metadata=self._metadata)
        return answer

    async def due(self, digest: pb.Digest, *, later: timedelta = timedelta()) -> None:
        """It is the time at which it is made, or so much later."""
        real = datetime.now(UTC)
        await self._world.forward(time_of(digest) - real + timedelta(seconds=BEHIND + 1) + later)

    async def settled(self, digest: pb.Digest) -> pb.Digest:
        """Returns once something became of it."""

        async def moved() -> bool:
            return (await self.has()).next_time != digest.next_time

        await until(moved)
        return await self.has()


def time_of(digest: pb.Digest) -> datetime:
    """When it is due."""
    return digest.next_time.ToDatetime(UTC)


async def arrive(world: World, times: int) -> None:
    """Returns once as many mails came."""
    await until(lambda: world.arrived(_MAIL) >= times)
    assert world.arrived(_MAIL) == times


async def test_each_digest_is_mailed_once_by_two_replicas_and_of_those_that_were_missed_the_latest(
    world: World,
) -> None:
    async with world.replica() as one, world.replica() as other:
        reader = Reader(one, world, new_org())
        await world.method(reader.org, email=_MAIL)
        first = await reader.wants()
        world.escalation.digest_questions.clear()  # whether she exists
        await reader.due(first)
        second = await Reader(other, world, reader.org).settled(first)
        assert time_of(second) - time_of(first) in (DAY - HOUR, DAY, DAY + HOUR)
        assert (second.latest_time, second.latest_result) == (first.next_time, "made")
        await arrive(world, 1)
        await reader.due(second, later=3 * DAY)
        fourth = await reader.settled(second)
        await arrive(world, 2)
        assert abs(fourth.latest_time.ToDatetime(UTC) - time_of(second) - 3 * DAY) <= HOUR

        async def noted() -> bool:
            return await world.states() == ["sent", "sent"]

        await until(noted)  # a mail is there before its row says so
    [row] = await world.admin.fetch("SELECT DISTINCT priority, state FROM notifications")
    assert (row["priority"], row["state"]) == (DIGESTS, "sent")
    questions = world.escalation.digest_questions
    assert all(question.end_time in (first.next_time, fourth.latest_time) for question in questions)


async def test_the_mail_has_text_and_html_and_says_what_the_preview_says(world: World, notify: Notify) -> None:
    reader = Reader(notify, world, new_org())
    world.escalation.digests[reader.org] = SummarizeForDigestsResponse(
        figures=digest_pb2.DigestFigures(
            opened=3,
            resolved=2,
            open=1,
            noisiest=[digest_pb2.DigestNoise(title="Платёж <упал>", incidents=1, alerts=7)],
        ),
        people=[digest_pb2.DigestPerson(user=ANA, pages=2)],
    )
    await world.method(reader.org, email=_MAIL)
    digest = await reader.wants()
    shown = await reader.previews()
    assert shown.worth_telling
    assert "3 opened, 2 resolved, 1 still open" in shown.brief
    await reader.due(digest)
    await arrive(world, 1)
    [received] = world.inbox.messages
    mail = message_from_bytes(received.body, policy=policy.default)
    bodies = {part.get_content_type(): part.get_content() for part in mail.iter_parts()}
    assert list(bodies) == ["text/plain", "text/html"], "programs show the last one that they can"
    assert "Платёж <упал>" in bodies["text/plain"]
    assert "Платёж &lt;упал&gt;" in bodies["text/html"]
    assert received.kind == "digest"
    assert received.subject.endswith("3 opened, 2 resolved, 1 still open")


async def test_the_link_at_its_end_ends_it_and_to_look_at_it_does_not(world: World) -> None:
    async with world.replica(public_url=PUBLIC) as notify, aiohttp.ClientSession() as session:
        base = f"http://127.0.0.1:{notify.runtime.http.port}"
        reader = Reader(notify, world, new_org())
        await world.method(reader.org, email=_MAIL)
        await reads(notify, reader.org, ANA, "de")
        first = await reader.wants()
        await reader.due(first)
        await reader.settled(first)
        await arrive(world, 1)
        mail = message_from_bytes(world.inbox.messages[0].body, policy=policy.default)
        text, html = (part.get_content() for part in mail.iter_parts())
        [link] = re.findall(r"Ihn beenden: (\S+)", text)
        assert f'href="{link}"' in html, "also on a phone, which shows the HTML"
        assert mail["List-Unsubscribe"].replace(" ", "") == f"<{link}>", "mail programs offer it, too"
        assert mail["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
        link = link.replace(PUBLIC, base)
        base, _, token = link.rpartition("/g/")
        for path in (f"/p/{token}", f"/d/{token}", f"/g/{'B' if token[0] == 'A' else 'A'}{token[1:]}"):
            async with session.get(base + path) as page:
                assert page.status == 404, "it is good for nothing else, and cannot be made up"
        async with session.get(link) as page:
            assert (page.status, "<button>Diesen Überblick beenden</button>" in await page.text()) == (200, True)
        assert (await reader.has()).next_time, "a scanner that looks at it ends nothing"
        for _ in range(2):
            async with session.post(link, data={"List-Unsubscribe": "One-Click"}) as page:
                assert (page.status, "Dieser Überblick ist beendet." in await page.text()) == (200, True)
        assert not await reader.has_any()
        await reader.wants()
        # The mail was made up to a day and a minute from now, and its link serves for 60 days.
        await world.forward(63 * DAY)
        async with session.post(link) as page:
            assert (page.status, "zu alt" in await page.text()) == (410, True)
        assert (await reader.has()).next_time


async def test_the_link_of_a_page_ends_no_digest(world: World) -> None:
    org = new_org()
    await world.method(org, email=_MAIL)
    async with world.replica(public_url=PUBLIC) as notify, aiohttp.ClientSession() as session:
        await notify.submit(job(org))
        await arrive(world, 1)
        text = world.inbox.messages[0].body.decode().replace("=\r\n", "").replace("=3D", "=")
        [link] = re.findall(rf"{PUBLIC}(/p/\S+)", text)
        base = f"http://127.0.0.1:{notify.runtime.http.port}"
        for call in (session.get, session.post):
            async with call(base + link.replace("/p/", "/g/")) as page:
                assert page.status == 404


@pytest.mark.parametrize(("when_empty", "mails"), [(pb.WHEN_EMPTY_NOTHING, 0), (pb.WHEN_EMPTY_ONE_LINE, 1)])
async def test_with_nothing_to_tell_nothing_is_sent_or_one_line(
    world: World, notify: Notify, when_empty: pb.WhenEmpty, mails: int
) -> None:
    reader = Reader(notify, world, new_org())
    world.escalation.digests[reader.org] = SummarizeForDigestsResponse(people=[digest_pb2.DigestPerson(user=ANA)])
    await world.method(reader.org, email=_MAIL)
    digest = await reader.wants(WEEKLY, weekday=weekday_pb2.WEEKDAY_MONDAY, when_empty=when_empty)
    await reader.due(digest)
    after = await reader.settled(digest)
    assert after.latest_result == ("made" if mails else "nothing to tell, so nothing was sent")
    await arrive(world, mails)
    assert all("nothing to tell" in message.subject for message in world.inbox.messages)


@pytest.mark.parametrize(
    ("at_most", "late", "mails"), [(6 * HOUR, 5 * HOUR, 1), (6 * HOUR, 7 * HOUR, 0), (8 * HOUR, 7 * HOUR, 1)]
)
async def test_one_that_could_not_be_made_is_made_late_or_left_out_and_noted(
    world: World, at_most: timedelta, late: timedelta, mails: int
) -> None:
    async with world.replica() as notify:
        reader = Reader(notify, world, new_org())
        await world.method(reader.org, email=_MAIL)
        digest = await reader.wants()
    await reader.due(digest, later=late)
    async with world.replica(digest_late_seconds=at_most.total_seconds()) as notify:
        after = await Reader(notify, world, reader.org).settled(digest)
        await arrive(world, mails)
    assert after.latest_result.startswith("made" if mails else "left out: it was due at ")
    assert after.latest_time == digest.next_time
