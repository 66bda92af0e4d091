"""Integrations whose alerts must be signed: the key is not enough, by no way in."""

import asyncio
import base64
import hashlib
import hmac
import json
from typing import Any

import aiohttp
import grpc
import pytest
from tocsin.ingest.v1.alert_service_pb2 import SendAlertRequest
from tocsin.ingest.v1.integration_service_pb2 import (
    CreateIntegrationRequest,
    GetIntegrationRequest,
    Integration,
    SignatureCheck,
    UpdateIntegrationRequest,
)

from tests.contract.ingest.posting import PATHS, Sender
from tests.store.ingest.support import Ingest, bearer, key, new_org, trigger

SECRET = "correct horse battery"
HEADER = "X-Hub-Signature-256"


async def signing(ingest: Ingest, http: aiohttp.ClientSession, **fields: str) -> Sender:
    """A sender whose integration asks for signatures."""
    org = new_org()
    check = SignatureCheck(**{"header": HEADER, "secret": SECRET, **fields})
    request = CreateIntegrationRequest(
        integration_id="signed", integration=Integration(display_name="signed", signature=check)
    )
    made = await ingest.integrations.CreateIntegration(request, metadata=bearer(org))
    return Sender(ingest, http, org, made.key)


def signature(body: bytes, secret: str = SECRET) -> bytes:
    return hmac.digest(secret.encode(), body, hashlib.sha256)


BODY = json.dumps({"summary": "disk full"}).encode()


@pytest.mark.parametrize(
    "given",
    [
        signature(BODY).hex(),
        f"sha256={signature(BODY).hex()}",
        f"sha256={signature(BODY).hex().upper()}",
        base64.b64encode(signature(BODY)).decode(),
        f"v1={base64.b64encode(signature(BODY)).decode()}",
    ],
)
async def test_what_is_signed_is_taken(ingest: Ingest, given: str) -> None:
    async with aiohttp.ClientSession() as http:
        sender = await signing(ingest, http)
        assert (await sender.post("/v1/json", BODY, **{HEADER: given}))[0] == 200
        assert [each.summary for each in await sender.alerts()] == ["disk full"]


async def test_a_large_body_is_signed_as_a_small_one_is(ingest: Ingest) -> None:
    """Its signature is worked out beside the event loop."""
    large = BODY + b" " * (3 << 19)
    async with aiohttp.ClientSession() as http:
        sender = await signing(ingest, http)
        assert (await sender.post("/v1/json", large, **{HEADER: signature(BODY).hex()}))[0] == 401
        assert (await sender.post("/v1/json", large, **{HEADER: signature(large).hex()}))[0] == 200
        assert [each.summary for each in await sender.alerts() if each.summary == "disk full"] == ["disk full"]


@pytest.mark.parametrize(
    "given",
    [
        None,
        "",
        "sha256=",
        signature(b"another body").hex(),
        signature(BODY, "another secret").hex(),
        "\u00e9",
        "0" * 5000,
    ],
)
async def test_what_is_not_signed_is_refused_and_people_hear_of_it(ingest: Ingest, given: str | None) -> None:
    async with aiohttp.ClientSession() as http:
        sender = await signing(ingest, http)
        status, answer = await sender.post("/v1/json", BODY, **({} if given is None else {HEADER: given}))
        assert (status, answer["error"]["reason"]) == (401, "CREDENTIAL_INVALID")
        assert HEADER in answer["error"]["message"]
        [told] = await sender.alerts()
        assert told.dedup_key == "tocsin-refused-alerts"


async def test_there_is_no_way_around_it(ingest: Ingest) -> None:
    async with aiohttp.ClientSession() as http:
        sender = await signing(ingest, http)
        for path in PATHS:
            assert (await sender.post(path, {"event_action": "trigger", "summary": "s", "message": "m"}))[0] in (
                400,
                401,
            )
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await ingest.alerts.SendAlert(trigger("k"), metadata=key(sender.key))
        assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
        event = {"routing_key": sender.key, "event_action": "trigger", "payload": {"summary": "s"}}
        _, answer = await sender.post("/v2/enqueue", event)
        assert f"{HEADER} is missing" in str(answer), (
            "the key is right, and PagerDuty's form of a wrong key would lead astray"
        )
        assert {each.dedup_key for each in await sender.alerts()} == {"tocsin-refused-alerts"}
        # A token is no key, and its holder may send for the integration.
        named = SendAlertRequest(integration="integrations/signed", alert=trigger("k").alert)
        await ingest.alerts.SendAlert(named, metadata=bearer(sender.org))


async def test_a_signature_with_a_time_is_fresh(ingest: Ingest) -> None:
    """As Grafana signs when it is told a header for the time."""
    async with aiohttp.ClientSession() as http, ingest.database.transaction("any") as tx:
        sender = await signing(ingest, http, timestamp_header="X-Time")
        now = int((await tx.now()).timestamp())

        async def post(stamp: str, signed: str) -> int:
            given = signature(f"{signed}:".encode() + BODY).hex()
            return (await sender.post("/v1/json", BODY, **{HEADER: given, "X-Time": stamp}))[0]

        assert await post(str(now - 60), str(now - 60)) == 200
        for stamp, signed in ((now, now - 60), (now - 400, now - 400), (now + 400, now + 400), ("", ""), ("x", "x")):
            assert await post(str(stamp), str(signed)) == 401


async def test_the_secret_is_never_shown_and_stays_until_another_is_given(ingest: Ingest) -> None:
    async with aiohttp.ClientSession() as http:
        sender = await signing(ingest, http)
        auth = bearer(sender.org)
        read = await ingest.integrations.GetIntegration(
            GetIntegrationRequest(name="integrations/signed"), metadata=auth
        )
        assert read.integration.signature == SignatureCheck(header=HEADER)
        async with ingest.database.transaction(sender.org) as tx:
            stored = await tx.fetchval("SELECT signature_secret FROM integrations WHERE org_id = $1", sender.org)
        assert SECRET.encode() not in stored

        async def change(**fields: Any) -> None:
            wanted = UpdateIntegrationRequest(integration=Integration(name="integrations/signed", **fields))
            wanted.update_mask.paths.extend(fields or ["signature"])
            await ingest.integrations.UpdateIntegration(wanted, metadata=auth)

        await change(display_name="renamed")
        await change(signature=SignatureCheck(header="X-Other"))
        assert (await sender.post("/v1/json", BODY, **{"X-Other": signature(BODY).hex()}))[0] == 200
        await change(signature=SignatureCheck(header="X-Other", secret="another secret"))
        assert (await sender.post("/v1/json", BODY, **{"X-Other": signature(BODY).hex()}))[0] == 401
        await change()
        assert (await sender.post("/v1/json", BODY))[0] == 200
        with pytest.raises(grpc.aio.AioRpcError, match="there is none yet"):
            await change(signature=SignatureCheck(header="X-Other"))


@pytest.mark.parametrize("odd", [b"sha256=\xfe\xff", b"%ff%00"])
async def test_no_bytes_of_a_header_are_an_error_of_ours(ingest: Ingest, odd: bytes) -> None:
    """No client library writes such bytes, and nothing keeps a sender from it."""
    names = (
        b"X-Hub-Signature-256",
        b"X-Time",
        b"Authorization",
        b"X-Routing-Key",
        b"Content-Type",
        b"Content-Encoding",
    )
    named = (*names, b"ce-id", b"ce-source", b"ce-subject", b"WebHook-Request-Origin", b"Expect", b"Accept", b"Cookie")
    async with aiohttp.ClientSession() as http:
        sender = await signing(ingest, http, timestamp_header="X-Time")
        bearing = b"Authorization: Bearer " + sender.key.encode()
        requests = [
            b"\r\n".join(
                (b"POST %s HTTP/1.1" % path.encode(), b"Host: a", b"Content-Length: 2", bearing, *others, b"", b"{}")
            )
            for path in PATHS
            for others in (
                *([name + b": " + odd] for name in named if name != b"Authorization"),
                [name + b": " + odd for name in named if name.startswith((b"ce-", b"X-"))],
            )
        ]
        requests += [each.replace(bearing, b"Authorization: Bearer " + odd) for each in requests[:: len(named)]]
        statuses = await asyncio.gather(*(_status(sender.ingest.http, each) for each in requests))
    assert [each for each in statuses if not 200 <= each < 500] == []


async def _status(url: str, request: bytes) -> int:
    host, _, port = url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(request)
    line = await reader.readline()
    writer.close()
    return int(line.split()[1])
