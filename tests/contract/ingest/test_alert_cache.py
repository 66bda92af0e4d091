"""Alerts that are recognised by their bytes: what they do in the database is what others do, and what changed is noticed."""

import asyncio
import random
import uuid
from collections.abc import Sequence
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import DecodeError
from prometheus_client import CollectorRegistry
from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin.ingest.v1.alert_pb2 import ALERT_ACTION_ACKNOWLEDGE, ALERT_ACTION_RESOLVE, AlertInput, AlertOutcome
from tocsin.ingest.v1.alert_service_pb2 import SendAlertRequest, SendAlertResponse, SendAlertsRequest
from tocsin.ingest.v1.integration_service_pb2 import (
    DeleteIntegrationRequest,
    Integration,
    LabelMatcher,
    MatchOperator,
    RoutingRule,
    UpdateIntegrationRequest,
)
from tocsin.ingest.v1.silence_service_pb2 import CreateSilenceRequest, ExpireSilenceRequest, Silence
from tocsin_ingest.app.alerts.admission import ALERTS
from tocsin_ingest.app.alerts.alert_cache import AlertCache
from tocsin_ingest.app.alerts.alert_request import Sender
from tocsin_ingest.app.alerts.commit_batch import CommitBatch, Entry
from tocsin_ingest.app.alerts.intake_times import IntakeTimes
from tocsin_ingest.app.alerts.rate_limit import RateLimit
from tocsin_ingest.app.alerts.send_alert import AlertIntake
from tocsin_ingest.app.integrations.directory import Directory
from tocsin_ingest.metrics import IngestMetrics
from tocsin_kit.batches import Batches
from tocsin_kit.budgets import OUTBOX_ROWS, Budgets, Limit, per_second
from tocsin_kit.db.pool import Database
from tocsin_kit.errors import TocsinError, from_status
from tocsin_kit.metrics import Metrics

from tests.store.ingest.support import Ingest, bearer, key, new_org, resolve, stored, trigger

RULES = (
    RoutingRule(
        matchers=[LabelMatcher(label="team", operator=MatchOperator.MATCH_OPERATOR_EQUAL, value="db")],
        policy="",
        group_by=["team"],
    ),
    RoutingRule(
        matchers=[LabelMatcher(label="team", operator=MatchOperator.MATCH_OPERATOR_EQUAL, value="quiet")], suppress=True
    ),
)


class Way:
    """An intake of its own, with its own memory, limits and counters."""

    def __init__(self, database: Database, org: str, burst: float) -> None:
        self.org = org
        self.metrics = IngestMetrics(CollectorRegistry())
        self.budgets = Budgets((per_second(ALERTS, 1000), Limit(OUTBOX_ROWS, 1000)), Metrics(), clock=lambda: 0.0)
        self.batches: Batches[Entry, bytes] = Batches(
            CommitBatch(database, self.metrics, lambda _: None), most=500, lane=lambda entry: entry.org_id
        )
        # Nothing comes back while the test runs.
        limit = RateLimit(1e-9, burst, Metrics())
        self.times = IntakeTimes(database, lambda: True, lambda: 0.0)
        self.intake = AlertIntake(Directory(database, self.metrics), self.budgets, limit, self.batches, self.times)
        self.sender = Sender(org, "users/ana", None)

    async def together(self, parts: Sequence[bytes]) -> list[object]:
        return [told(each) for each in await self.intake.send_all(self.sender, parts)]

    async def one_by_one(self, parts: Sequence[bytes]) -> list[object]:
        answers: list[object] = []
        for part in parts:
            # An alert that is seen for the first time.
            self.intake._cache = AlertCache()
            try:
                answers.append(told(await self.intake.send(self.sender, part)))
            except Exception as error:
                answers.append(told(error))
        return answers

    async def counted(self) -> dict[str, float]:
        values = {
            str(sample.labels["outcome"]): sample.value
            for sample in next(iter(self.metrics.alerts.collect())).samples
            if sample.name.endswith("_total")
        }
        return {name: value for name, value in values.items() if value}


def told(answer: object) -> object:
    """An answer without its ids."""
    if isinstance(answer, bytes):
        answer = SendAlertResponse.FromString(answer)
        names = (bool(answer.alert), bool(answer.incident), answer.silence)
        return (answer.outcome, answer.dedup_key, answer.count, answer.incident_resolved, *names)
    return (answer.reason_name, answer.message) if isinstance(answer, TocsinError) else repr(answer)


def mixed(chance: random.Random, integration: str) -> list[bytes]:
    """Many of few: identical, different in a word, of one group, suppressed, resolved, acknowledged, and wrong in some way."""
    pool = []
    for _ in range(chance.randint(2, 8)):
        labels = {"team": chance.choice(["db", "db", "web", "quiet"])}
        action: Any = chance.choice([0, 1, 1, 1, 1, ALERT_ACTION_RESOLVE, ALERT_ACTION_ACKNOWLEDGE])
        alert = AlertInput(
            dedup_key=chance.choice("abc"), action=action, summary=f"it says {chance.randint(1, 3)}", labels=labels
        )
        say(chance, alert)
        match chance.randrange(16):
            case 0:
                alert.ClearField("summary")
            case 1:
                alert.summary += "\0"
            case 2:
                alert.severity = 9  # type: ignore[assignment]
            case 3:
                alert.source = "x" * 300
            case 4:
                alert.ClearField("dedup_key")
        of = chance.choice([integration] * 6 + ["", "integrations/nobody", "wrong"])
        request_id = str(uuid.UUID(int=chance.randint(1, 2))) if chance.random() < 0.1 else ""
        pool.append(SendAlertRequest(alert=alert, integration=of, request_id=request_id).SerializeToString())
    return [chance.choice(pool) for _ in range(chance.randint(1, 30))]


def say(chance: random.Random, alert: AlertInput) -> None:
    """Words of which some break a rule, and some are mended."""
    if chance.random() < 0.7:
        alert.details["value"] = chance.choice(
            ["1", "2", 3.5, -1, float("nan"), "a\0b", "\x7f", True, None, [1, {"a": "b"}]]
        )
        if chance.random() < 0.1:
            alert.details.fields["nothing"].Clear()
            alert.details["much"] = "x" * chance.choice([1000, 40_000, 70_000])
    if chance.random() < 0.3:
        alert.client_time.seconds = chance.choice([0, 1, 2, 10**14])
        alert.client_time.nanos = chance.choice([0, 5, -5])


@pytest.mark.parametrize("seed", range(8))
async def test_a_batch_does_what_its_alerts_do_one_by_one(ingest: Ingest, seed: int) -> None:
    chance = random.Random(seed)
    burst = chance.choice([2, 5, 100])
    ways = [Way(ingest.database, new_org(), burst) for _ in range(2)]
    by_summary = LabelMatcher(label="summary", operator=MatchOperator.MATCH_OPERATOR_EQUAL, value="it says 2")
    rules = (RoutingRule(matchers=[by_summary], suppress=True), *RULES) if seed % 2 else RULES
    for way in ways:
        await ingest.integration(way.org, rules=rules, integration_id="prom")
    together, single = ways
    for _ in range(4):
        parts = mixed(chance, "integrations/prom")
        assert await together.together(parts) == await single.one_by_one(parts)
    assert await stored(ingest, together.org) == await stored(ingest, single.org)
    assert await together.counted() == await single.counted()
    assert {of for _, of in together.times._refused} == {of for _, of in single.times._refused}
    assert together.budgets.used(together.org, ALERTS) == pytest.approx(single.budgets.used(single.org, ALERTS))


async def send(ingest: Ingest, metadata: Any, *requests: SendAlertRequest) -> list[str]:
    """The outcome or the reason of each, sent as one batch."""
    answer = await ingest.alerts.SendAlerts(SendAlertsRequest(alerts=requests), metadata=metadata)
    return [
        AlertOutcome.Name(each.response.outcome).removeprefix("ALERT_OUTCOME_")
        if each.HasField("response")
        else from_status(each.error).reason_name
        for each in answer.results
    ]


async def test_what_the_database_says_counts_also_for_what_is_recognised(ingest: Ingest) -> None:
    org = bearer(new_org())
    assert await send(ingest, org, *[trigger("k")] * 3) == ["OPENED", "DEDUPLICATED", "DEDUPLICATED"]
    assert await send(ingest, org, trigger("k"), resolve("k"), trigger("k"), trigger("k")) == [
        *("DEDUPLICATED", "RESOLVED", "OPENED", "DEDUPLICATED")
    ]
    # By another way in.
    await ingest.alerts.SendAlert(resolve("k"), metadata=org)
    assert await send(ingest, org, trigger("k"), trigger("k")) == ["OPENED", "DEDUPLICATED"]


async def test_changed_rules_hold_for_what_is_recognised(ingest: Ingest) -> None:
    org = new_org()
    name, secret = await ingest.integration(org)
    sent = [trigger("k", labels={"team": "quiet"})] * 3
    assert await send(ingest, key(secret), *sent) == ["OPENED", "DEDUPLICATED", "DEDUPLICATED"]
    await ingest.alerts.SendAlert(resolve("k"), metadata=key(secret))
    await ingest.integrations.UpdateIntegration(
        UpdateIntegrationRequest(
            integration=Integration(name=name, routing_rules=RULES), update_mask=FieldMask(paths=["routing_rules"])
        ),
        metadata=bearer(org),
    )
    assert await send(ingest, key(secret), *sent) == ["SUPPRESSED"] * 3


async def test_a_silence_holds_back_what_is_recognised_and_its_end_lets_it_go(ingest: Ingest) -> None:
    org = bearer(new_org())
    sent = [trigger("k", labels={"team": "db"})] * 3
    assert await send(ingest, org, *sent) == ["OPENED", "DEDUPLICATED", "DEDUPLICATED"]
    await ingest.alerts.SendAlert(resolve("k"), metadata=org)
    silence = Silence(
        matchers=[LabelMatcher(label="team", operator=MatchOperator.MATCH_OPERATOR_EQUAL, value="db")],
        reason="planned",
    )
    made = await ingest.silences.CreateSilence(
        CreateSilenceRequest(silence=silence, duration=Duration(seconds=3600)), metadata=org
    )
    assert await send(ingest, org, *sent, *sent) == ["SILENCED"] * 6
    await ingest.silences.ExpireSilence(ExpireSilenceRequest(name=made.silence.name), metadata=org)
    # The alert that it held back may have fired by itself meanwhile.
    assert (await send(ingest, org, *sent))[1] == "DEDUPLICATED"


async def test_a_deleted_integration_takes_nothing_that_is_recognised(ingest: Ingest) -> None:
    org = new_org()
    name, _ = await ingest.integration(org)
    sent = [trigger("k", integration=name)] * 3
    assert await send(ingest, bearer(org), *sent) == ["OPENED", "DEDUPLICATED", "DEDUPLICATED"]
    await ingest.integrations.DeleteIntegration(DeleteIntegrationRequest(name=name), metadata=bearer(org))
    assert await send(ingest, bearer(org), *sent) == ["INTEGRATION_NOT_FOUND"] * 3


async def test_the_same_bytes_of_two_tenants_and_two_integrations_are_their_own(ingest: Ingest) -> None:
    org, other = new_org(), new_org()
    _, one = await ingest.integration(org)
    _, two = await ingest.integration(org)
    for metadata in (key(one), key(two), bearer(org), bearer(other)):
        assert await send(ingest, metadata, *[trigger("k")] * 3) == ["OPENED", "DEDUPLICATED", "DEDUPLICATED"]
    # Another sender of the same tenant, without an integration as well.
    assert await send(ingest, bearer(org, subject="users/ben"), trigger("k")) == ["DEDUPLICATED"]


async def test_a_repeated_request_gets_its_answer_and_is_not_counted_again(ingest: Ingest) -> None:
    way = Way(ingest.database, new_org(), 100)

    def sent(value: str, request_id: str = "") -> bytes:
        request = trigger("k")
        request.alert.details["value"] = value
        request.request_id = request_id
        return request.SerializeToString()

    ids = [str(uuid.UUID(int=number)) for number in range(3)]
    assert [each[2] for each in await way.together([sent("1", ids[0])] * 2)] == [1, 1]  # type: ignore[index]
    assert [each[2] for each in await way.together([sent("2", ids[1]), sent("1", ids[0])])] == [2, 1]  # type: ignore[index]
    assert [each[2] for each in await way.together([sent("2", ids[1]), sent("2"), sent("2")])] == [2, 3, 4]  # type: ignore[index]
    assert [each[2] for each in await way.together([sent("2"), sent("2", ids[2]), sent("2", ids[2])])] == [5, 6, 6]  # type: ignore[index]
    # The id of another body.
    assert (await way.together([sent("3", ids[1])]))[0][0] == "REQUEST_ID_REUSED"  # type: ignore[index]
    assert [row[2] for row in await stored(ingest, way.org)] == [6]


async def test_nothing_is_taken_in_of_a_batch_with_bytes_that_are_no_alert(ingest: Ingest) -> None:
    way = Way(ingest.database, new_org(), 100)
    good = trigger("k").SerializeToString()
    await way.together([good])
    with pytest.raises(DecodeError):
        await way.intake.send_all(way.sender, [good, b"\x0a\x05ab", good])
    assert [row[2] for row in await stored(ingest, way.org)] == [1]


async def test_a_recognised_alert_is_answered_after_its_commit_and_not_when_that_fails(ingest: Ingest) -> None:
    way = Way(ingest.database, new_org(), 100)
    part = trigger("k").SerializeToString()
    await way.together([part])
    async with ingest.database.transaction(way.org) as tx:
        # Each statement that would write the alert waits for this.
        await tx.execute("SELECT FROM alerts WHERE dedup_key = 'k' FOR UPDATE")
        waiting = asyncio.create_task(way.together([part] * 5))
        while not way.batches._running:
            await asyncio.sleep(0)
        await asyncio.sleep(0.05)
        assert not waiting.done()
    assert [each[2] for each in await waiting] == [2, 3, 4, 5, 6]  # type: ignore[index]

    async def away(entries: list[Entry]) -> list[bytes | Exception]:
        raise TocsinError(ErrorReason.ERROR_REASON_DATABASE_UNAVAILABLE, "it is away")

    way.batches._work = away
    assert await way.together([part] * 2) == [("DATABASE_UNAVAILABLE", "it is away")] * 2
    assert [row[2] for row in await stored(ingest, way.org)] == [6]
