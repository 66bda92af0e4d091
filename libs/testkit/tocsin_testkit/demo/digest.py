"""The chapter about digests: the day in one mail, for the one who asked for it."""

from datetime import UTC, datetime, timedelta

from tocsin.notify.v1 import digest_service_pb2 as pb
from tocsin.notify.v1.digest_pb2 import DIGEST_FREQUENCY_DAILY

from tocsin_testkit.busy import until
from tocsin_testkit.demo.story import Story
from tocsin_testkit.demo.tell import BLUE


async def what_the_day_was(story: Story) -> None:
    """Ana wants a digest at the next full hour; the clock of the databases is moved there."""
    world, tell, ana = story.tenant.world, story.tell, story.ana
    tell.chapter("A digest: ana wants the day in one mail")
    now = datetime.now(UTC) + world.clock.offset
    wanted = pb.Digest(
        user=ana.name,
        frequency=DIGEST_FREQUENCY_DAILY,
        hour=(now + timedelta(hours=1)).hour,
        time_zone="UTC",
    )
    made = (await ana.own.digests.UpdateDigest(pb.UpdateDigestRequest(digest=wanted))).digest
    due = made.next_time.ToDatetime(UTC)
    tell.happens(f"UpdateDigest: daily at {due:%H:%M} UTC, by e-mail")
    asked = pb.PreviewDigestRequest(user=ana.name, frequency=DIGEST_FREQUENCY_DAILY)

    async def counted() -> bool:
        shown: pb.PreviewDigestResponse = await ana.own.digests.PreviewDigest(asked)
        figures = shown.content.figures
        return figures.opened == len(story.pages) and figures.opened - figures.resolved == figures.open

    await until(counted)
    await world.clock.forward(due - now + timedelta(seconds=61))
    tell.happens(f"it is {due:%H:%M}, and a minute later the figures are counted …")
    mail = await world.inbox.wait_for(lambda each: each.kind == "digest" and each.address in ana.addresses, "a digest")
    story.digest = story.tenant.expected(mail).subject
    tell.happens(f"ana gets {mail.subject!r}", BLUE)
