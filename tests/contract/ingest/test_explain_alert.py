"""ExplainAlert tells why an alert opened an incident, joined one or opened none, and by which rule."""

import re

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from tocsin.errors.v1.error_reason_pb2 import ErrorReason as R
from tocsin.ingest.v1.alert_pb2 import ALERT_ACTION_RESOLVE, AlertInput
from tocsin.ingest.v1.integration_service_pb2 import (
    Integration,
    LabelMatcher,
    RoutingRule,
    TriggerThreshold,
    UpdateIntegrationRequest,
)
from tocsin.ingest.v1.silence_service_pb2 import ExpireSilenceRequest
from tocsin_kit.errors import from_rpc_error

from tests.contract.ingest.test_simulate import EQUAL, Caller, caller
from tests.store.ingest.support import Ingest, bearer, until

FALLBACK = "with the fallback policy of the tenant"
TIME = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC")


def for_env(value: str, **fields: object) -> RoutingRule:
    return RoutingRule(matchers=[LabelMatcher(label="env", operator=EQUAL, value=value)], **fields)  # type: ignore[arg-type]


async def told(here: Caller, key: str, env: str, *, times: int = 1) -> list[str]:
    """What is told of an alert that was sent so often; times are `T`, and its incident is `I`."""
    alert = AlertInput(dedup_key=key, summary="x", labels={"env": env, "team": "web"})
    for _ in range(times):
        answer = await here.sends(alert)
    return await again(here, answer.alert)


async def again(here: Caller, name: str) -> list[str]:
    explained = await here.explains(name)
    incident = explained.alert.incident or "-"
    return [TIME.sub("T", line).replace(incident, "I") for line in explained.explanation]


async def test_it_tells_the_rule_the_keys_and_what_kept_the_alert(ingest: Ingest) -> None:
    threshold = TriggerThreshold(count=3, window=Duration(seconds=600))
    here = await caller(
        ingest,
        for_env("dev", display_name="quiet", suppress=True),
        for_env("prod", display_name="short ones", pause=Duration(seconds=60), group_by=["team"]),
        for_env("test", threshold=threshold, group_by=["team", "env"]),
    )
    assert await told(here, "a", "dev", times=2) == [
        "its dedup key is 'a', of which 2 messages have come",
        f"T: rule 0 'quiet' of routing v1 matched, {FALLBACK}; the rule suppressed it, so it opened no incident",
        "no other key shares its incident",
        "it has no incident now: its rule suppresses it",
    ]
    assert (await told(here, "b", "prod"))[1:] == [
        f"T: rule 1 'short ones' of routing v1 matched, {FALLBACK}; the rule paused it until T, so it opened no incident at once",
        "alerts of the integration and policy that agree in team ('web') share an incident",
        "it has no incident now: it is paused until T",
    ]
    assert (await told(here, "c", "test", times=2))[1::2] == [
        f"T: rule 2 of routing v1 matched, {FALLBACK}; it was trigger 1 of 3 in 10 minutes, so it opened no incident",
        "it has no incident now: its group has had trigger 2 of 3 in 10 minutes",
    ]
    opened = await told(here, "d", "stage")
    assert opened[1:] == [
        f"T: no rule of routing v1 matched, so it took the default route, {FALLBACK}; it opened I",
        "no other key shares its incident",
        "it is firing, in I",
    ]


async def test_it_tells_one_decision_after_the_other_and_the_version_of_the_rules_then(ingest: Ingest) -> None:
    here = await caller(ingest, for_env("prod", pause=Duration(seconds=60), group_by=["team"]))
    silence = await here.silences(matchers=[LabelMatcher(label="env", operator=EQUAL, value="prod")])
    alert = AlertInput(dedup_key="a", summary="x", labels={"env": "prod", "team": "web"})
    name = (await here.sends(alert)).alert
    changed = Integration(name=here.integration, routing_rules=[RoutingRule(group_by=["team"])])
    await here.ingest.integrations.UpdateIntegration(
        UpdateIntegrationRequest(integration=changed, update_mask=FieldMask(paths=["routing_rules"])),
        metadata=bearer(here.org),
    )
    other = AlertInput(dedup_key="b", summary="y", labels={"env": "test", "team": "web"})
    first = await here.sends(other)
    alert.labels["env"] = "test"
    assert (await here.sends(alert)).incident == first.incident
    explained = await here.explains(name)
    assert [(each.etag, each.silence) for each in explained.decisions] == [("v1", silence.name), ("v2", "")]
    assert (await again(here, name))[1:] == [
        f"T: rule 0 of routing v1 matched, {FALLBACK}; "
        f"{silence.name} held it back, until T at the latest, so it opened no incident",
        "alerts of the integration and policy that agree in team ('web') share an incident",
        f"rule 0 of routing v2 matched, {FALLBACK}; it joined I, which was open",
        "it is firing, in I",
    ]
    for key in ("a", "b"):
        await here.sends(AlertInput(dedup_key=key, action=ALERT_ACTION_RESOLVE))
    assert (await again(here, name))[-1] == "it was resolved at T; I is resolved"


async def test_what_opens_at_the_end_of_a_silence_has_its_time(ingest: Ingest) -> None:
    here = await caller(ingest)
    silence = await here.silences(matchers=[LabelMatcher(label="env", operator=EQUAL, value="prod")])
    name = (await here.sends(AlertInput(dedup_key="a", summary="x", labels={"env": "prod"}))).alert
    await ingest.silences.ExpireSilence(ExpireSilenceRequest(name=silence.name), metadata=bearer(here.org))

    async def opened() -> bool:
        return len((await here.explains(name)).decisions) == 2

    await until(opened)
    held, opens = (await here.explains(name)).decisions
    assert (held.silence, opens.silence) == (silence.name, "")
    assert opens.time.ToNanoseconds() > held.time.ToNanoseconds() > 0
    assert (await again(here, name))[-2:] == ["T: it opened I", "it is firing, in I"]


async def test_alerts_without_a_record_and_alerts_that_do_not_exist(ingest: Ingest) -> None:
    here = await caller(ingest)
    answer = await here.sends(AlertInput(dedup_key="a", summary="x"))
    async with ingest.database.transaction(here.org) as tx:
        await tx.execute("UPDATE alerts SET decided = NULL WHERE org_id = $1", here.org)
    assert (await again(here, answer.alert))[
        1
    ] == "it began before decisions were recorded: which rule matched is not known"
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await here.explains("alerts/018f0000-0000-7000-8000-000000000001")
    assert from_rpc_error(caught.value).reason == R.ERROR_REASON_ALERT_NOT_FOUND
