"""A digest through the running services: from an alert to the mail of the next morning."""

from datetime import UTC, datetime, timedelta

from tocsin.notify.v1 import digest_service_pb2 as pb
from tocsin.notify.v1.digest_pb2 import DIGEST_FREQUENCY_DAILY
from tocsin_testkit.busy import until
from tocsin_testkit.tenant import Tenant
from tocsin_testkit.world import World


async def test_ana_reads_what_the_day_was_and_ben_who_wants_none_reads_nothing(tenant: Tenant, world: World) -> None:
    ana, ben = await tenant.person("ana", email=True), await tenant.person("ben", email=True)
    await tenant.schedule("web", ana, ben)
    prom = await tenant.integration(await tenant.policy([ana], [ben], minutes=20))
    incident, other = await prom.triggers("db down"), await prom.triggers("disk full")
    for each in (incident, other):
        await ana.is_paged(each)
    await tenant.passes(minutes=10)
    await ana.acknowledges(incident)
    await ana.resolves(incident)
    opened = (await tenant.incident(incident)).create_time.ToDatetime(UTC)
    hour = (opened + timedelta(hours=2)).hour
    wanted = pb.Digest(user=ana.name, frequency=DIGEST_FREQUENCY_DAILY, hour=hour, time_zone="UTC")
    made = (await ana.own.digests.UpdateDigest(pb.UpdateDigestRequest(digest=wanted))).digest
    asked = pb.PreviewDigestRequest(user=ana.name, frequency=DIGEST_FREQUENCY_DAILY)
    shown = pb.PreviewDigestResponse()

    async def counted() -> bool:
        shown.CopyFrom(await ana.own.digests.PreviewDigest(asked))
        return shown.content.figures.resolved == 1

    await until(counted)
    figures, person = shown.content.figures, shown.content.person
    assert (figures.opened, figures.open, [each.title for each in figures.open_incidents]) == (2, 1, ["disk full"])
    assert 9 * 60 <= figures.mean_time_to_acknowledge.seconds <= 12 * 60
    assert (person.pages, person.acknowledged) == (2, 1)
    assert person.shifts[0].schedule == "web"
    await ana.acknowledges(other)
    now = datetime.now(UTC) + world.clock.offset
    await tenant.passes(seconds=(made.next_time.ToDatetime(UTC) - now).total_seconds() + 61)
    mail = await world.inbox.wait_for(lambda each: each.kind == "digest" and each.address in ana.addresses, "a digest")
    tenant.expected(mail)
    assert mail.subject.endswith(": 2 opened, 1 resolved, 1 still open")
    assert b"text/html" in mail.body
    assert not [each for each in world.inbox.messages if each.kind == "digest" and each.address in ben.addresses]
