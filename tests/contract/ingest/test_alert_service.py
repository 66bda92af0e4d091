"""AlertService through a real socket: outcomes, batches, streams, reads, and every bad input with its words."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from google.protobuf import json_format
from google.protobuf.struct_pb2 import Struct
from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin.ingest.v1.alert_pb2 import (
    ALERT_ACTION_ACKNOWLEDGE,
    ALERT_STATE_FIRING,
    ALERT_STATE_RESOLVED,
    AlertInput,
    AlertOutcome,
    Link,
)
from tocsin.ingest.v1.alert_service_pb2 import (
    GetAlertRequest,
    ListAlertsRequest,
    SendAlertRequest,
    SendAlertsRequest,
    StreamAlertsRequest,
)
from tocsin.ingest.v1.integration_service_pb2 import DeleteIntegrationRequest, RoutingRule
from tocsin_kit.auth import SigningKeys, mint
from tocsin_kit.errors import TocsinError, from_rpc_error, from_status

from tests.contract.errors import refused_by_size
from tests.store.ingest.support import (
    KEYS,
    FakeEscalation,
    Ingest,
    bearer,
    key,
    new_org,
    resolve,
    running,
    trigger,
    until,
)

R = ErrorReason


async def error_of(call: Any) -> TocsinError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return from_rpc_error(caught.value)


async def test_callers_with_a_token_need_no_integration(ingest: Ingest, escalation: FakeEscalation) -> None:
    org = new_org()
    opened = await ingest.alerts.SendAlert(trigger("k"), metadata=bearer(org))
    acknowledged = await ingest.alerts.SendAlert(
        SendAlertRequest(alert=AlertInput(action=ALERT_ACTION_ACKNOWLEDGE, dedup_key="k")), metadata=bearer(org)
    )
    assert acknowledged.outcome == AlertOutcome.ALERT_OUTCOME_ACKNOWLEDGED
    await until(lambda: escalation.kinds(opened.incident) == ["opened", "acknowledged"])
    assert escalation.events[opened.incident][1].acknowledged.actor == "users/ana"
    assert escalation.events[opened.incident][0].org_id == org


async def test_keys_and_tokens_of_one_integration_meet(ingest: Ingest) -> None:
    org = new_org()
    name, secret = await ingest.integration(org)
    one = await ingest.alerts.SendAlert(trigger("k"), metadata=key(secret))
    two = await ingest.alerts.SendAlert(trigger("k", integration=name), metadata=bearer(org))
    three = await ingest.alerts.SendAlert(trigger("k"), metadata=bearer(org))
    assert one.alert == two.alert
    assert three.outcome == AlertOutcome.ALERT_OUTCOME_OPENED
    # With a key the field is ignored: the key names its integration.
    four = await ingest.alerts.SendAlert(trigger("k", integration="integrations/other"), metadata=key(secret))
    assert four.alert == one.alert


async def test_without_a_key_the_labels_tell_else_source_and_summary(ingest: Ingest) -> None:
    org = bearer(new_org())
    one = await ingest.alerts.SendAlert(trigger(summary="a", labels={"x": "1"}), metadata=org)
    two = await ingest.alerts.SendAlert(trigger(summary="b", labels={"x": "1"}), metadata=org)
    assert one.dedup_key == two.dedup_key
    assert two.count == 2
    three = await ingest.alerts.SendAlert(trigger(summary="a", source="s"), metadata=org)
    four = await ingest.alerts.SendAlert(trigger(summary="b", source="s"), metadata=org)
    assert three.dedup_key != four.dedup_key


async def test_rules_group_route_and_suppress(ingest: Ingest, escalation: FakeEscalation) -> None:
    org = new_org()
    escalation.policies.add("policies/db")
    rules = [
        RoutingRule(matchers=[{"label": "env", "operator": 1, "value": "test"}], suppress=True),  # type: ignore[list-item]
        RoutingRule(policy="policies/db", group_by=["cluster"]),
    ]
    _, secret = await ingest.integration(org, rules=rules)

    async def send(dedup_key: str, **labels: str) -> tuple[int, str]:
        answer = await ingest.alerts.SendAlert(trigger(dedup_key, labels=labels), metadata=key(secret))
        return answer.outcome, answer.incident

    outcome, incident = await send("a", cluster="c1")
    assert outcome == AlertOutcome.ALERT_OUTCOME_OPENED
    assert await send("b", cluster="c1") == (AlertOutcome.ALERT_OUTCOME_GROUPED, incident)
    assert (await send("c", cluster="c2"))[0] == AlertOutcome.ALERT_OUTCOME_OPENED
    assert await send("d", env="test") == (AlertOutcome.ALERT_OUTCOME_SUPPRESSED, "")
    assert await send("d", env="test") == (AlertOutcome.ALERT_OUTCOME_SUPPRESSED, "")
    await until(lambda: len(escalation.kinds(incident)) == 2)
    opened, added = escalation.events[incident]
    assert opened.opened.policy == "policies/db"
    assert (added.alerts_added.alert_count, added.alerts_added.new_keys) == (2, 1)


async def test_a_batch_answers_each_in_order(ingest: Ingest) -> None:
    org = bearer(new_org())
    requests = [trigger("a"), trigger("b", summary=""), trigger("a"), resolve("zzz")]
    requests.append(trigger("c", integration="integrations/nobody"))
    response = await ingest.alerts.SendAlerts(SendAlertsRequest(alerts=requests), metadata=org)
    outcomes = [each.response.outcome for each in response.results]
    assert outcomes == [1, 0, 2, AlertOutcome.ALERT_OUTCOME_IGNORED, 0]
    bad, missing = (from_status(response.results[index].error) for index in (1, 4))
    single = await error_of(ingest.alerts.SendAlert(requests[1], metadata=org))
    assert (bad.reason, bad.fields) == (single.reason, single.fields)
    assert bad.fields[0].field == "alert"
    assert "summary is required" in bad.fields[0].description
    assert missing.reason == R.ERROR_REASON_INTEGRATION_NOT_FOUND


async def test_a_stream_answers_each_by_its_number(ingest: Ingest) -> None:
    org = bearer(new_org())

    async def requests() -> AsyncIterator[StreamAlertsRequest]:
        for number in range(2500):
            request = trigger("same", summary="" if number == 7 else "full")
            yield StreamAlertsRequest(sequence=number, request=request)

    answers = {each.sequence: each async for each in ingest.alerts.StreamAlerts(requests(), metadata=org)}
    assert sorted(answers) == list(range(2500))
    assert answers[7].HasField("error")
    assert sorted(each.response.count for each in answers.values()) == list(range(2500))
    assert len({each.response.incident for each in answers.values() if each.HasField("response")}) == 1


async def test_a_stream_that_is_left_takes_nothing_down(ingest: Ingest) -> None:
    org = bearer(new_org())
    call = ingest.alerts.StreamAlerts(metadata=org)
    await call.write(StreamAlertsRequest(sequence=1, request=trigger("k")))
    assert await call.read() is not grpc.aio.EOF
    call.cancel()
    assert (await ingest.alerts.SendAlert(trigger("k"), metadata=org)).count == 2


async def test_a_stopping_replica_answers_what_it_took_and_says_that_it_goes(
    database_url: str, escalation: FakeEscalation
) -> None:
    org = bearer(new_org())
    async with running(database_url, escalation.target) as ingest:
        call = ingest.alerts.StreamAlerts(metadata=org)
        for number in range(50):
            await call.write(StreamAlertsRequest(sequence=number, request=trigger("k")))
        first = await call.read()
        ingest.runtime.stop.set()
        answered = [first]

        async def read_on() -> None:
            while True:
                answered.append(await call.read())

        assert (await error_of(read_on())).reason == R.ERROR_REASON_SERVICE_UNAVAILABLE
    async with running(database_url, escalation.target) as other:
        # Nothing that was taken in went without its answer.
        assert (await other.alerts.SendAlert(trigger("k"), metadata=org)).count == len(answered) + 1


async def test_a_repeat_with_its_request_id_gets_the_first_answer(ingest: Ingest) -> None:
    org = bearer(new_org())
    request = trigger("k", request_id=str(uuid.uuid4()))
    first = await ingest.alerts.SendAlert(request, metadata=org)
    await ingest.alerts.SendAlert(trigger("k"), metadata=org)
    assert await ingest.alerts.SendAlert(request, metadata=org) == first
    batch = await ingest.alerts.SendAlerts(SendAlertsRequest(alerts=[request, request]), metadata=org)
    assert [each.response for each in batch.results] == [first, first]
    request.alert.summary = "something else"
    reused = await error_of(ingest.alerts.SendAlert(request, metadata=org))
    assert (reused.reason, reused.code) == (R.ERROR_REASON_REQUEST_ID_REUSED, grpc.StatusCode.INVALID_ARGUMENT)
    # The same id of another tenant is another request.
    other = await ingest.alerts.SendAlert(request, metadata=bearer(new_org()))
    assert other.outcome == AlertOutcome.ALERT_OUTCOME_OPENED


async def test_alerts_are_read_and_listed_newest_first(ingest: Ingest) -> None:
    org = new_org()
    name, secret = await ingest.integration(org)
    for number in range(5):
        await ingest.alerts.SendAlert(trigger(f"k{number}", source="db1"), metadata=key(secret))
    over = await ingest.alerts.SendAlert(resolve("k0"), metadata=key(secret))
    await ingest.alerts.SendAlert(trigger("k9"), metadata=bearer(org))

    async def keys(**wanted: Any) -> list[str]:
        found: list[str] = []
        request = ListAlertsRequest(page_size=2, **wanted)
        while True:
            page = await ingest.alerts.ListAlerts(request, metadata=bearer(org))
            found += [alert.dedup_key for alert in page.alerts]
            if not page.next_page_token:
                return found
            request.page_token = page.next_page_token

    assert await keys() == ["k9", "k4", "k3", "k2", "k1", "k0"]
    assert await keys(integration=name) == ["k4", "k3", "k2", "k1", "k0"]
    assert await keys(dedup_key="k3") == ["k3"]
    assert await keys(incident=over.incident) == ["k0"]
    assert await keys(states=[ALERT_STATE_RESOLVED]) == ["k0"]
    assert await keys(states=[ALERT_STATE_FIRING], integration=name) == ["k4", "k3", "k2", "k1"]
    read = await ingest.alerts.GetAlert(GetAlertRequest(name=over.alert), metadata=bearer(org))
    assert (read.alert.state, read.alert.source, read.alert.integration) == (ALERT_STATE_RESOLVED, "db1", name)
    assert read.alert.HasField("resolve_time")

    page = await ingest.alerts.ListAlerts(ListAlertsRequest(page_size=2), metadata=bearer(org))
    stolen = ListAlertsRequest(page_token=page.next_page_token, dedup_key="k3")
    for request, metadata in ((stolen, bearer(org)), (ListAlertsRequest(page_token=stolen.page_token), bearer("x"))):
        error = await error_of(ingest.alerts.ListAlerts(request, metadata=metadata))
        assert error.reason == R.ERROR_REASON_PAGE_TOKEN_INVALID
    negative = await error_of(ingest.alerts.ListAlerts(ListAlertsRequest(page_size=-1), metadata=bearer(org)))
    assert negative.fields[0].field == "page_size"


async def test_a_page_of_large_alerts_fits_what_clients_take(ingest: Ingest) -> None:
    """Clients of gRPC refuse more than 4 MiB, and a server more than 16: such a page could not be read at all."""
    org, count = new_org(), 48
    labels = {f"l{number}": "v" * 1024 for number in range(64)}
    details = json_format.ParseDict({"d": "x" * 60_000}, Struct())
    alerts = [
        SendAlertRequest(alert=AlertInput(dedup_key=f"k{number:02}", summary="s", labels=labels, details=details))
        for number in range(count)
    ]
    for start in range(0, count, 6):
        await ingest.alerts.SendAlerts(SendAlertsRequest(alerts=alerts[start : start + 6]), metadata=bearer(org))
    found: list[str] = []
    request = ListAlertsRequest(page_size=500)
    while True:
        page = await ingest.alerts.ListAlerts(request, metadata=bearer(org))
        found += [alert.dedup_key for alert in page.alerts]
        request.page_token = page.next_page_token
        if not request.page_token:
            break
    assert sorted(found) == [f"k{number:02}" for number in range(count)]


async def test_tenants_do_not_see_each_other(ingest: Ingest) -> None:
    mine, other = new_org(), new_org()
    name, secret = await ingest.integration(mine)
    alert = await ingest.alerts.SendAlert(trigger("k"), metadata=key(secret))
    error = await error_of(ingest.alerts.GetAlert(GetAlertRequest(name=alert.alert), metadata=bearer(other)))
    assert (error.reason, error.metadata["name"]) == (R.ERROR_REASON_ALERT_NOT_FOUND, alert.alert)
    error = await error_of(ingest.alerts.SendAlert(trigger("k", integration=name), metadata=bearer(other)))
    assert (error.reason, error.code) == (R.ERROR_REASON_INTEGRATION_NOT_FOUND, grpc.StatusCode.NOT_FOUND)
    assert not (await ingest.alerts.ListAlerts(ListAlertsRequest(), metadata=bearer(other))).alerts


BIG = json_format.ParseDict({"details": {"x": "y" * 70_000}}, AlertInput()).details


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (SendAlertRequest(), "alert"),
        (trigger("k", summary=""), "alert"),
        (trigger("k", summary="s" * 1025), "alert.summary"),
        (trigger("k" * 256), "alert.dedup_key"),
        (trigger("k", source="s" * 256), "alert.source"),
        (trigger("k", client="s" * 256), "alert.client"),
        (trigger("k", severity=99), "alert.severity"),
        (SendAlertRequest(alert=AlertInput(action=9, dedup_key="k", summary="s")), "alert.action"),  # type: ignore[arg-type]
        (SendAlertRequest(alert=AlertInput(action=ALERT_ACTION_ACKNOWLEDGE)), "alert"),
        (trigger("k", labels={f"l{number}": "" for number in range(65)}), "alert.labels"),
        (trigger("k", labels={"": "v"}), 'alert.labels[""]'),
        (trigger("k", labels={"l": "v" * 1025}), 'alert.labels["l"]'),
        (trigger("k", links=[Link(href="ftp://x")]), "alert.links[0].href"),
        (trigger("k", links=[Link(href="https://x")] * 11), "alert.links"),
        (trigger("k", details=BIG), "alert.details"),
        (trigger("k", request_id="not-a-uuid"), "request_id"),
        (trigger("k", integration="other/x"), "integration"),
    ],
)
async def test_a_bad_field_is_named(ingest: Ingest, request_: SendAlertRequest, field: str) -> None:
    error = await error_of(ingest.alerts.SendAlert(request_, metadata=bearer(new_org())))
    assert (error.reason, error.code) == (R.ERROR_REASON_INVALID_FIELD, grpc.StatusCode.INVALID_ARGUMENT)
    assert [violation.field for violation in error.fields] == [field]
    assert error.fields[0].description


async def test_bad_credentials(ingest: Ingest) -> None:
    org = new_org()

    async def reason(metadata: Any) -> tuple[ErrorReason.ValueType, grpc.StatusCode]:
        error = await error_of(ingest.alerts.SendAlert(trigger("k"), metadata=metadata))
        return error.reason, error.code

    unauthenticated = grpc.StatusCode.UNAUTHENTICATED
    assert await reason(None) == (R.ERROR_REASON_CREDENTIAL_MISSING, unauthenticated)
    assert await reason(key("tik_" + "A" * 43)) == (R.ERROR_REASON_CREDENTIAL_INVALID, unauthenticated)
    assert await reason(key("garbage")) == (R.ERROR_REASON_CREDENTIAL_INVALID, unauthenticated)
    expired = mint(SigningKeys.parse(KEYS), org_id=org, subject="users/a", scopes=("alerts:write",), ttl=10, now=1e9)
    assert await reason(key(expired)) == (R.ERROR_REASON_CREDENTIAL_EXPIRED, unauthenticated)
    denied = (R.ERROR_REASON_SCOPE_MISSING, grpc.StatusCode.PERMISSION_DENIED)
    assert await reason(bearer(org, ("alerts:read",))) == denied
    name, secret = await ingest.integration(org)
    for call in (
        ingest.alerts.ListAlerts(ListAlertsRequest(), metadata=key(secret)),
        ingest.integrations.DeleteIntegration(DeleteIntegrationRequest(name=name), metadata=key(secret)),
    ):
        error = await error_of(call)
        assert (error.reason, error.code) == denied


async def test_five_megabytes_are_refused(ingest: Ingest) -> None:
    request = trigger("k", labels={f"l{number}": "x" * 1000 for number in range(5000)})
    org = bearer(new_org())
    refusal = await refused_by_size(lambda: ingest.alerts.SendAlert(request, metadata=org))
    assert refusal is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_too_many_in_a_batch(ingest: Ingest) -> None:
    requests = SendAlertsRequest(alerts=[trigger("k")] * 1001)
    error = await error_of(ingest.alerts.SendAlerts(requests, metadata=bearer(new_org())))
    assert error.fields[0].field == "alerts"


async def test_too_fast_says_when_to_come_again(database_url: str, escalation: FakeEscalation) -> None:
    async with running(database_url, escalation.target, rate_per_second=0.01, rate_burst=3) as ingest:
        org = bearer(new_org())
        answers = await asyncio.gather(
            *(ingest.alerts.SendAlert(trigger(f"k{number}"), metadata=org) for number in range(5)),
            return_exceptions=True,
        )
        refused = [from_rpc_error(each) for each in answers if isinstance(each, grpc.aio.AioRpcError)]
        assert len(refused) == 2
        assert refused[0].reason == R.ERROR_REASON_RATE_LIMITED
        assert refused[0].code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert (refused[0].retry_after or 0) > 50


async def test_an_alert_has_a_total_size_limit(ingest: Ingest) -> None:
    org = bearer(new_org())
    snow = "\N{SNOWMAN}" * 1024
    large = trigger("large", labels={f"{number}": snow for number in range(43)})
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await ingest.alerts.SendAlert(large, metadata=org)
    error = from_rpc_error(caught.value)
    assert (error.reason_name, error.code) == ("ALERT_TOO_LARGE", grpc.StatusCode.INVALID_ARGUMENT)
    assert error.metadata["limit_bytes"] == "131072"
    assert [each.field for each in error.fields] == ["alert"]
    both = await ingest.alerts.SendAlerts(SendAlertsRequest(alerts=[large, trigger("small")]), metadata=org)
    assert [each.WhichOneof("result") for each in both.results] == ["error", "response"]
