"""Bodies that came before are not parsed again, and do what they did the first time: same answer, same rows, same counts."""

import json
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from tocsin.ingest.v1.integration_service_pb2 import (
    DeleteIntegrationRequest,
    Integration,
    LabelMatcher,
    MatchOperator,
    RoutingRule,
    SignatureCheck,
    UpdateIntegrationRequest,
)
from tocsin.ingest.v1.silence_service_pb2 import CreateSilenceRequest, Silence
from tocsin_ingest.app.alerts.admission import ALERTS
from tocsin_ingest.app.alerts.own_alerts import OWN
from tocsin_ingest.app.alerts.refusals import Refusals
from tocsin_ingest.domain.decision import Outcome
from tocsin_ingest.http import documents
from tocsin_kit.budgets import BYTES, RPCS, Budgets

from tests.store.ingest.support import Ingest, bearer, new_org, stored

V1 = "/generic/2010-04-15/create_event.json"
V2 = "/v2/enqueue"
MOST = 199
QUIET = LabelMatcher(label="class", operator=MatchOperator.MATCH_OPERATOR_EQUAL, value="disk")


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The bodies that are parsed."""
    bodies: list[bytes] = []
    read = documents.read

    async def noting(data: bytes, *args: Any) -> documents.Document:
        bodies.append(data)
        return await read(data, *args)

    monkeypatch.setattr(documents, "read", noting)
    return bodies


@pytest.fixture
def untold(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refusals open no incident of their own, which comes at its own time and is counted with what was sent."""

    async def report(*_: Any, **__: Any) -> None: ...

    monkeypatch.setattr(Refusals, "_report", report)


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> Counter[tuple[str, str]]:
    """What tenants take of their limits."""
    counts: Counter[tuple[str, str]] = Counter()
    take = Budgets.try_take

    def noting(self: Budgets, org_id: str, name: str, count: float = 1, *, kept: float = 0.0) -> float:
        counts[org_id, name] += count  # type: ignore[assignment]
        return take(self, org_id, name, count, kept=kept)

    monkeypatch.setattr(Budgets, "try_take", noting)
    return counts


class Poster:
    """One integration, whose bodies are all of one length."""

    def __init__(self, ingest: Ingest, http: aiohttp.ClientSession, org: str, name: str, key: str) -> None:
        self.ingest, self.http, self.org, self.name, self.key = ingest, http, org, name, key

    @classmethod
    async def of(cls, ingest: Ingest, http: aiohttp.ClientSession) -> "Poster":
        org = new_org()
        return cls(ingest, http, org, *await ingest.integration(org, integration_id="pager"))

    async def post(self, path: str, fields: dict[str, Any], spaces: int = 0) -> tuple[Any, ...]:
        text = json.dumps({"routing_key": self.key, "service_key": self.key, **fields})
        body = f"{' ' * spaces}{text}{' ' * (MOST - spaces)}".encode()
        async with self.http.post(f"{self.ingest.http}{path}", data=body) as answer:
            headers = {name: value for name, value in answer.headers.items() if name != "Date"}
            told = await answer.json()
            if "dedup_key" not in fields and "incident_key" not in fields:
                # It was made for this one alert.
                headers.pop("Content-Length")
                told = sorted(told)
            return answer.status, headers, told

    async def changes(self, integration: Integration, field: str) -> None:
        integration.name = self.name
        request = UpdateIntegrationRequest(integration=integration, update_mask=FieldMask(paths=[field]))
        await self.ingest.integrations.UpdateIntegration(request, metadata=bearer(self.org))

    async def suppresses(self) -> None:
        rule = RoutingRule(matchers=[QUIET], suppress=True)
        await self.changes(Integration(routing_rules=[rule]), "routing_rules")

    async def silences(self) -> None:
        silence = Silence(matchers=[QUIET], reason="planned")
        request = CreateSilenceRequest(silence=silence, duration=Duration(seconds=3600))
        await self.ingest.silences.CreateSilence(request, metadata=bearer(self.org))

    async def signs(self) -> None:
        await self.changes(
            Integration(signature=SignatureCheck(header="X-Signature", secret="much too long")), "signature"
        )

    async def leaves(self) -> None:
        await self.ingest.integrations.DeleteIntegration(
            DeleteIntegrationRequest(name=self.name), metadata=bearer(self.org)
        )


async def sent(poster: Poster) -> list[Any]:
    """The rows of what was posted. Of a key that was made here no two are alike."""
    rows = [row for row in await stored(poster.ingest, poster.org) if row[0] not in OWN]
    return sorted((row if len(row[0]) == 1 else (*row[1:5], *row[6:]) for row in rows), key=repr)


def v2(chance: random.Random) -> dict[str, Any]:
    action = chance.choice(["trigger"] * 5 + ["acknowledge", "resolve", "explode"])
    payload = {
        "summary": chance.choice(["disk full", "disk full", "disk gone", ""]),
        "class": chance.choice(["disk", ""]),
    }
    keys = {"dedup_key": chance.choice("ab")} if chance.random() < 0.9 else {}
    return {"event_action": action, "payload": payload, **keys}


def v1(chance: random.Random) -> dict[str, Any]:
    action = chance.choice(["trigger"] * 5 + ["acknowledge", "resolve", "explode"])
    keys = {"incident_key": chance.choice("cd")} if chance.random() < 0.9 else {}
    return {"event_type": action, "description": chance.choice(["disk full", "disk gone", ""]), **keys}


CHANGES: tuple[Callable[[Poster], Any], ...] = (Poster.suppresses, Poster.silences, Poster.signs)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.usefixtures("untold")
async def test_a_body_that_came_before_does_what_a_new_one_does(
    ingest: Ingest, seed: int, parsed: list[bytes], taken: Counter[tuple[str, str]]
) -> None:
    chance = random.Random(seed)
    pool = [(V2, v2(chance)) for _ in range(6)] + [(V1, v1(chance)) for _ in range(4)]
    # The same one several times, and all of them before and after each change.
    rounds = [[each for each in chance.choices(pool, k=15) for _ in range(chance.choice((1, 3)))] for _ in range(3)]
    changes = chance.sample(CHANGES, 2)
    total = sum(map(len, rounds))
    count = ingest.runtime.metrics.registry.get_sample_value

    async def told(poster: Poster, spaces: Callable[[int], int]) -> list[Any]:
        answers, number = list[Any](), 0
        for each, change in zip(rounds, [*changes, None], strict=True):
            for path, fields in each:
                answers.append(await poster.post(path, fields, spaces(number)))
                number += 1
            if change is not None:
                await change(poster)
        return answers

    def counted(org: str) -> list[float]:
        names = {name: taken[org, name] for name in (RPCS, BYTES, ALERTS)}
        outcomes = [each.name.lower() for each in Outcome]
        return [*names.values(), *(count("tocsin_ingest_alerts_total", {"outcome": each}) or 0 for each in outcomes)]

    async with aiohttp.ClientSession() as http:
        known, new = [await Poster.of(ingest, http) for _ in range(2)]
        before = counted(known.org)
        answers = await told(known, lambda _: 0)
        # All bodies of the other are as long, and each differs from those before it.
        parsed_known, between = len(parsed), counted(known.org)
        parsed.clear()
        begin = counted(new.org)
        assert await told(new, lambda number: number) == answers
        assert await sent(new) == await sent(known)
        after = counted(new.org)
    assert total < MOST
    assert len(parsed) == total, "each was new"
    assert parsed_known < total * 0.8, "some were known"
    moved = [each - earlier for each, earlier in zip(between, before, strict=True)]
    assert moved[0] >= total
    assert sum(moved[3:]) > 10, "so many were committed"
    assert [each - earlier for each, earlier in zip(after, begin, strict=True)] == moved


async def test_a_known_body_with_anothers_key_in_the_header_is_the_others(ingest: Ingest, parsed: list[bytes]) -> None:
    fields = {"event_action": "trigger", "dedup_key": "k", "payload": {"summary": "disk full"}}
    async with aiohttp.ClientSession() as http:
        one, other = [await Poster.of(ingest, http) for _ in range(2)]
        for _ in range(3):
            await one.post(V2, fields)
        http.headers["X-Routing-Key"] = other.key
        for _ in range(2):
            assert (await one.post(V2, fields))[0] == 202
        assert [len(parsed), (await stored(ingest, one.org))[0][2], (await stored(ingest, other.org))[0][2]] == [
            2,
            3,
            2,
        ]
        http.headers["X-Routing-Key"] = "tik_wrong"
        assert (await one.post(V2, fields))[0] == 400


async def test_a_known_body_is_refused_by_a_limit_and_counted_as_such(ingest: Ingest, parsed: list[bytes]) -> None:
    fields = {"event_action": "trigger", "dedup_key": "k", "payload": {"summary": "disk full"}}
    budgets = ingest.runtime.rpc.budgets
    async with aiohttp.ClientSession() as http:
        poster = await Poster.of(ingest, http)
        for _ in range(3):
            await poster.post(V2, fields)
        for name in (ALERTS, RPCS, BYTES):
            budgets.note(poster.org, name, 1e12)
            status, headers, told = await poster.post(V2, fields)
            assert (status, told["status"], "Retry-After" in headers) == (429, "throttle exceeded", True)
            assert budgets.refused(poster.org, name) == 1
            del budgets._tenants[poster.org]
        assert len(parsed) == 2
        assert (await stored(ingest, poster.org))[0][2] == 3


async def test_a_known_body_of_a_deleted_integration_is_refused(ingest: Ingest) -> None:
    fields = {"event_action": "trigger", "dedup_key": "k", "payload": {"summary": "disk full"}}
    async with aiohttp.ClientSession() as http:
        poster = await Poster.of(ingest, http)
        for _ in range(3):
            await poster.post(V2, fields)
        await poster.leaves()
        # The key may still be remembered for a moment.
        assert (await poster.post(V2, fields))[0] in (400, 404)
        assert [row[2] for row in await stored(ingest, poster.org) if row[0] == "k"] == [3]
