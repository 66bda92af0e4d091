"""An event that escalation refuses for good, or lacks, never leaves its incident unpaged."""

from tocsin.escalation.v1.internal_service_pb2 import IncidentEvent
from tocsin.ingest.v1.alert_pb2 import Link

from tests.store.ingest.support import FakeEscalation, Ingest, bearer, new_org, peer, resolve, running, trigger, until


async def dead(ingest: Ingest, org: str) -> list[tuple[IncidentEvent, str]]:
    async with ingest.database.transaction(org) as tx:
        rows = await tx.fetch("SELECT payload, last_error FROM outbox WHERE dead_time IS NOT NULL ORDER BY id")
    return [(IncidentEvent.FromString(row["payload"]), row["last_error"]) for row in rows]


async def delivered(ingest: Ingest, org: str) -> None:
    async def none_waits() -> bool:
        async with ingest.database.transaction(org) as tx:
            return not await tx.fetchval("SELECT count(*) FROM outbox WHERE dead_time IS NULL")

    await until(none_waits, 30.0)


async def test_an_opening_that_is_refused_pages_from_what_is_left_of_it(database_url: str) -> None:
    async with peer() as picky:
        picky.refuse = lambda event: "poison" in event.opened.labels or not event.opened.title.isascii()
        async with running(database_url, picky.target) as ingest:
            org = new_org()
            alert = trigger(
                "k",
                summary="dïsk full",
                source="db1",
                labels={"poison": "x"},
                links=[Link(href="https://a.example", text="Graph")],
                severity=2,
            )
            incident = (await ingest.alerts.SendAlert(alert, metadata=bearer(org))).incident
            await until(lambda: picky.kinds(incident) == ["opened"])
            opened = picky.events[incident][0].opened
            assert (opened.title, opened.source, opened.severity) == ("d?sk full", "db1", 2)
            assert list(opened.left_out) == ["labels", "links", "parts of the title"]
            assert not opened.labels
            assert not opened.links
            await delivered(ingest, org)
            [(event, reason)] = await dead(ingest, org)
            assert event.opened.labels == {"poison": "x"}, "the original is kept"
            assert "refused" in reason
            await ingest.alerts.SendAlert(resolve("k"), metadata=bearer(org))
            await until(lambda: picky.kinds(incident) == ["opened", "resolved"])


async def test_what_comes_after_a_dead_opening_opens_the_incident(database_url: str) -> None:
    async with peer() as picky:
        picky.refuse = lambda event: event.HasField("opened")
        async with running(database_url, picky.target) as ingest:
            org = new_org()
            incident = (await ingest.alerts.SendAlert(trigger("k"), metadata=bearer(org))).incident
            await until(lambda: picky.refused >= 1)
            await delivered(ingest, org)
            picky.refuse = lambda _: False
            await ingest.alerts.SendAlert(trigger("k", severity=1, summary="worse"), metadata=bearer(org))
            await until(lambda: picky.kinds(incident) == ["opened", "alerts_added"])
            first, second = picky.events[incident]
            assert first.opened.anew_because == "escalation did not know the incident"
            assert (first.sequence, second.sequence, first.opened.alert_count) == (1, 2, 2)


async def test_a_gap_is_closed_by_the_next_event(database_url: str) -> None:
    async with peer() as picky, running(database_url, picky.target) as ingest:
        org = new_org()
        incident = (await ingest.alerts.SendAlert(trigger("k", severity=3), metadata=bearer(org))).incident
        await until(lambda: picky.kinds(incident) == ["opened"])
        async with ingest.database.transaction(org) as tx:
            await tx.execute("UPDATE incidents SET event_sequence = 5 WHERE org_id = $1", org)
        await ingest.alerts.SendAlert(trigger("k", severity=1), metadata=bearer(org))
        await until(lambda: picky.kinds(incident) == ["opened", "opened", "alerts_added"])
        _, again, added = picky.events[incident]
        assert (again.sequence, added.sequence) == (5, 6)
        assert again.opened.anew_because == "escalation lacked an earlier event of the incident"
        assert again.opened.severity == 1
        assert again.event_id


async def test_a_resolve_whose_incident_is_unknown_tells_the_whole_story(database_url: str) -> None:
    async with peer() as forgetful, running(database_url, forgetful.target) as ingest:
        org = new_org()
        incident = (await ingest.alerts.SendAlert(trigger("k"), metadata=bearer(org))).incident
        await until(lambda: forgetful.kinds(incident) == ["opened"])
        forgetful.events.clear()
        await ingest.alerts.SendAlert(resolve("k"), metadata=bearer(org))
        await until(lambda: forgetful.kinds(incident) == ["opened"])
        [event] = forgetful.events[incident]
        assert (event.sequence, event.opened.resolved_by) == (2, "users/ana")


async def test_events_of_incidents_that_ingest_does_not_know_either_are_kept(database_url: str) -> None:
    async with peer() as forgetful, running(database_url, forgetful.target) as ingest:
        org = new_org()
        incident = (await ingest.alerts.SendAlert(trigger("k"), metadata=bearer(org))).incident
        await until(lambda: forgetful.kinds(incident) == ["opened"])
        forgetful.events.clear()
        forgetful.unavailable = True
        await ingest.alerts.SendAlert(resolve("k"), metadata=bearer(org))
        async with ingest.database.transaction(org) as tx:
            await tx.execute("DELETE FROM incidents WHERE org_id = $1", org)
        forgetful.unavailable = False
        await delivered(ingest, org)
        [(event, reason)] = await dead(ingest, org)
        assert event.HasField("resolved")
        assert reason == "escalation did not know the incident, and ingest has no record of it"


def test_the_peer_of_these_tests_refuses_what_the_real_one_refuses() -> None:
    fake = FakeEscalation()
    event = IncidentEvent(incident="incidents/1", sequence=2)
    event.resolved.SetInParent()
    assert fake._apply(event) == 4
