"""An alert comes in, people are paged level after level until one answers."""

import pytest
from google.protobuf.duration_pb2 import Duration
from tocsin.escalation.v1 import incident_pb2, incident_service_pb2
from tocsin.ingest.v1 import alert_pb2
from tocsin_testkit.tenant import Tenant, target
from tocsin_testkit.verify import signature_holds


async def test_no_user_answers_so_the_next_level_is_paged_and_an_acknowledge_stops_it(tenant: Tenant) -> None:
    ana, ben, cem = await tenant.people("ana", "ben", "cem")
    policy = await tenant.policy([ana], [ben], [cem], minutes=5)
    prom = await tenant.integration(policy)

    incident = await prom.triggers("db down", dedup_key="db")
    await ana.is_paged(incident, level=1)
    await tenant.passes(minutes=5)
    await ben.is_paged(incident, level=2)

    answer = await ben.acknowledges(incident)
    assert answer.incident.state == incident_pb2.INCIDENT_STATE_ACKNOWLEDGED
    await ana.is_told(incident, "acknowledgment")
    await tenant.passes(minutes=60)

    closed = await prom.resolves("db")
    assert closed.incident_resolved
    for person in (ana, ben):
        await person.is_told(incident, "resolution")
    assert (await tenant.incident(incident)).state == incident_pb2.INCIDENT_STATE_RESOLVED


async def test_a_storm_of_duplicates_pages_once(tenant: Tenant) -> None:
    [ana] = await tenant.people("ana")
    prom = await tenant.integration(await tenant.policy([ana]))
    incident = await prom.triggers("db down", dedup_key="db")
    await ana.is_paged(incident)
    for _ in range(50):
        answer = await prom.sends("db down", dedup_key="db")
        assert answer.outcome == alert_pb2.ALERT_OUTCOME_DEDUPLICATED
        assert answer.incident == incident
    assert answer.count == 51


async def test_a_new_alert_after_the_resolve_opens_a_new_incident(tenant: Tenant) -> None:
    [ana] = await tenant.people("ana")
    prom = await tenant.integration(await tenant.policy([ana]))
    first = await prom.triggers("db down", dedup_key="db")
    await ana.is_paged(first)
    await prom.resolves("db")
    await ana.is_told(first, "resolution")
    second = await prom.triggers("db down", dedup_key="db")
    assert second != first
    await ana.is_paged(second)


async def test_mail_reaches_a_real_server(tenant: Tenant) -> None:
    ana = await tenant.person("ana", email=True)
    prom = await tenant.integration(await tenant.policy([ana]))
    incident = await prom.triggers("disk full\r\nBcc: everybody@example.com")
    mail = await ana.is_paged(incident)
    assert mail.subject == "[critical] disk full Bcc: everybody@example.com (level 1)"
    assert "Bcc" not in dict(mail.headers)


async def test_a_webhook_is_signed_so_that_others_can_check_it(tenant: Tenant) -> None:
    [ana] = await tenant.people("ana")
    prom = await tenant.integration(await tenant.policy([ana]))
    page = await ana.is_paged(await prom.triggers("db down"))
    signature = dict(page.headers)["Tocsin-Signature"]
    assert signature_holds(signature, page.body, ana.webhook_secret, key_id=ana.webhook_key_id)
    assert not signature_holds(signature, page.body + b" ", ana.webhook_secret, key_id=ana.webhook_key_id)


async def test_a_whole_team_is_paged_at_once_and_one_answer_is_enough(tenant: Tenant) -> None:
    ana, ben, cem = await tenant.people("ana", "ben", "cem")
    core = await tenant.team("core", ana, ben)
    prom = await tenant.integration(await tenant.policy([core], [cem]))
    incident = await prom.triggers("db down")
    await ana.is_paged(incident)
    await ben.is_paged(incident)
    await ana.acknowledges(incident)
    await ben.is_told(incident, "acknowledgment")
    await tenant.passes(minutes=30)


async def test_repeat_n_means_n_more_passes_and_then_it_is_exhausted(tenant: Tenant) -> None:
    [ana] = await tenant.people("ana")
    prom = await tenant.integration(await tenant.policy([ana], minutes=1, repeat_count=2))
    incident = await prom.triggers("db down")
    for _ in range(3):
        await ana.is_paged(incident, level=1)
        await tenant.passes(minutes=1)
    assert (await tenant.incident(incident)).state == incident_pb2.INCIDENT_STATE_EXHAUSTED
    await tenant.passes(minutes=60)


async def test_a_level_without_people_is_skipped_at_once_and_the_timeline_says_so(tenant: Tenant) -> None:
    [ana] = await tenant.people("ana")
    nobody = await tenant.team("nobody")
    prom = await tenant.integration(await tenant.policy([nobody], [ana]))
    incident = await prom.triggers("db down")
    await ana.is_paged(incident, level=2)
    said = [entry.message for entry in await tenant.timeline(incident)]
    assert any("level 1 skipped" in message for message in said)


async def test_an_incident_without_a_usable_policy_runs_on_the_fallback_and_says_so(tenant: Tenant) -> None:
    [ana] = await tenant.people("ana")
    await tenant.policy([ana], name="catch-all", tenant_fallback=True)
    prom = await tenant.integration()
    incident = await prom.triggers("db down")
    await ana.is_paged(incident)
    assert (await tenant.incident(incident)).on_fallback_policy


async def test_snooze_is_quiet_and_then_pages_again(tenant: Tenant) -> None:
    [ana] = await tenant.people("ana")
    prom = await tenant.integration(await tenant.policy([ana]))
    incident = await prom.triggers("db down")
    await ana.is_paged(incident)
    request = incident_service_pb2.SnoozeIncidentRequest(name=incident, duration=Duration(seconds=3600))
    await ana.own.incidents.SnoozeIncident(request)
    await tenant.passes(minutes=59)
    assert ana.pages(incident)[1:] == []
    await tenant.passes(minutes=1)
    await ana.is_paged(incident)


async def test_an_acknowledge_that_times_out_pages_again(tenant: Tenant) -> None:
    [ana] = await tenant.people("ana")
    prom = await tenant.integration(await tenant.policy([ana], ack_timeout=Duration(seconds=1800)))
    incident = await prom.triggers("db down")
    await ana.is_paged(incident)
    await ana.acknowledges(incident)
    await tenant.passes(minutes=30)
    await ana.is_paged(incident)


async def test_escalate_and_reassign_page_now(tenant: Tenant) -> None:
    ana, ben, cem = await tenant.people("ana", "ben", "cem")
    prom = await tenant.integration(await tenant.policy([ana], [ben]))
    incident = await prom.triggers("db down")
    await ana.is_paged(incident)
    await ana.own.incidents.EscalateIncident(incident_service_pb2.EscalateIncidentRequest(name=incident))
    await ben.is_paged(incident, level=2)
    to_cem = incident_service_pb2.Targets(targets=[target(cem)])
    await ben.own.incidents.ReassignIncident(
        incident_service_pb2.ReassignIncidentRequest(name=incident, targets=to_cem)
    )
    await cem.is_paged(incident)
    assert list((await tenant.incident(incident)).assignees) == [cem.name]


async def test_rules_with_delays_are_cancelled_by_an_acknowledge(tenant: Tenant) -> None:
    ana = await tenant.person("ana")
    mail = await ana.adds_email()
    await ana.wants(("high", ana.methods[0], 0), ("high", mail, 2))
    prom = await tenant.integration(await tenant.policy([ana], minutes=60))
    first = await prom.triggers("db down", dedup_key="one")
    await ana.is_paged(first, at=ana.addresses[0])
    await ana.acknowledges(first)
    await tenant.passes(minutes=3)
    second = await prom.triggers("db down again", dedup_key="two")
    await ana.is_paged(second, at=ana.addresses[0])
    await tenant.passes(minutes=2)
    await ana.is_paged(second, at=ana.addresses[1])


async def test_a_person_resolves_and_the_key_is_free_again(tenant: Tenant) -> None:
    [ana] = await tenant.people("ana")
    prom = await tenant.integration(await tenant.policy([ana]))
    first = await prom.triggers("db down", dedup_key="db")
    await ana.is_paged(first)
    answer = await ana.resolves(first)
    assert answer.incident.state == incident_pb2.INCIDENT_STATE_RESOLVED
    assert not answer.already_resolved
    assert (await ana.resolves(first)).already_resolved
    second = await prom.triggers("db down", dedup_key="db")
    assert second != first
    await ana.is_paged(second)


async def test_a_sender_that_acknowledges_stops_the_paging(tenant: Tenant) -> None:
    ana, _ = await tenant.people("ana", "ben")
    prom = await tenant.integration(await tenant.policy([ana], ["users/ben"]))
    incident = await prom.triggers("db down", dedup_key="db")
    await ana.is_paged(incident)
    await prom.sends(action=alert_pb2.ALERT_ACTION_ACKNOWLEDGE, dedup_key="db")
    await ana.is_told(incident, "acknowledgment")
    await tenant.passes(minutes=30)
    await prom.resolves("db")
    await ana.is_told(incident, "resolution")


async def test_a_sender_s_note_stands_in_the_timeline_and_pages_no_user(tenant: Tenant) -> None:
    [ana] = await tenant.people("ana")
    prom = await tenant.integration(await tenant.policy([ana]))
    incident = await prom.triggers("db down", dedup_key="db")
    await ana.is_paged(incident)
    answer = await prom.sends("the replica is fine", action=alert_pb2.ALERT_ACTION_NOTE, dedup_key="db")
    assert (answer.outcome, answer.incident) == (alert_pb2.ALERT_OUTCOME_NOTED, incident)
    await prom.resolves("db")
    await ana.is_told(incident, "resolution")
    notes = [each for each in await tenant.timeline(incident) if each.kind == incident_pb2.TIMELINE_KIND_NOTE]
    assert [(each.actor, each.message) for each in notes] == [(prom.name, "the replica is fine")]


async def test_a_permanent_failure_goes_to_the_next_method_at_once(tenant: Tenant) -> None:
    ana = await tenant.person("ana")
    mail = await ana.adds_email()
    await ana.wants(("high", ana.methods[0], 0), ("high", mail, 30))
    tenant.world.hooks.will_answer(ana.addresses[0], [410])
    prom = await tenant.integration(await tenant.policy([ana], minutes=60))
    incident = await prom.triggers("db down")
    await ana.is_paged(incident, at=ana.addresses[1])


@pytest.mark.parametrize("status", [500, 503, 429, 408])
async def test_a_passing_failure_is_tried_again_with_the_same_key(tenant: Tenant, status: int) -> None:
    [ana] = await tenant.people("ana")
    tenant.world.hooks.will_answer(ana.addresses[0], [status, status])
    prom = await tenant.integration(await tenant.policy([ana], minutes=60))
    incident = await prom.triggers("db down")
    while not ana.pages(incident):
        await tenant.passes(seconds=10)
    await ana.is_paged(incident)
    refused = [path for path, _ in tenant.world.hooks.refused if path == ana.addresses[0]]
    assert len(refused) == 2
