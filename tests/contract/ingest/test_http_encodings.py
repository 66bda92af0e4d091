"""Encoded bodies: what is read, what is refused and how, and that no answer to HEAD has a body."""

import asyncio
import gzip
import io
import itertools
import json
import zlib
from typing import Final

import aiohttp
from tocsin_testkit.busy import within

from tests.contract.ingest.posting import PATHS, Sender, alert, sender
from tests.store.ingest.support import FakeEscalation, new_org, running

__all__ = ["sender"]

ALIVE: Final = b'{"alive": true}'


async def test_a_body_that_is_not_what_its_encoding_says_is_400(sender: Sender) -> None:
    wrong = []
    for encoding, compress in (("gzip", gzip.compress), ("deflate", zlib.compress)):
        packed = compress(b"{}" * 1000)
        for data in (b"{}", packed[: len(packed) // 2], packed[:9] + b"xx" + packed[11:], b"\0" * 20):
            for path in PATHS:
                status, _ = await post(sender, path, encoding, data)
                if status != 400:
                    wrong.append((path, encoding, data, status))
    assert wrong == []


async def test_an_encoding_that_is_not_read_is_415_and_says_which_are(sender: Sender) -> None:
    wrong = []
    for path, encoding in itertools.product(PATHS, ("br", "zstd", "compress", "x", "gzip, gzip", "identity, br")):
        status, said = await post(sender, path, encoding, b"{}")
        if status != 415 or "must be gzip, deflate or absent" not in said:
            wrong.append((path, encoding, status, said))
    assert wrong == []


async def post(sender: Sender, path: str, encoding: str, data: bytes) -> tuple[int, str]:
    headers = {"Authorization": f"Bearer {sender.key}", "Content-Encoding": encoding}
    async with sender.http.post(f"{sender.ingest.http}{path}", data=io.BytesIO(data), headers=headers) as response:
        return response.status, await response.text()


async def test_head_is_answered_without_a_body_even_if_it_carries_one(sender: Sender) -> None:
    """The client of a HEAD would read a body as the beginning of its next answer."""
    wrong = []
    encodings = ("br", "zstd", "gzip", "deflate", "x-gzip", "x", "identity")
    for path, encoding in itertools.product((*PATHS, "/healthz", "/nothing"), encodings):
        answered = await ask_head(sender, path, encoding)
        if len(answered) != 3 or not answered[1].startswith(b"HTTP/1.1 200 OK\r\n") or answered[2] != ALIVE:
            wrong.append((path, encoding, answered))
    assert wrong == []


async def ask_head(sender: Sender, path: str, encoding: str) -> list[bytes]:
    """HEAD with a body, and GET /healthz on the same connection: the heads of both answers, and the body of the second."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(sender.ingest.http.rpartition(":")[2]))
    head = f"HEAD {path} HTTP/1.1\r\nHost: x\r\nContent-Encoding: {encoding}\r\nContent-Length: 2\r\n\r\n{{}}"
    writer.write(head.encode() + b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    async with asyncio.timeout(within(30)):
        answered = (await reader.read()).split(b"\r\n\r\n")
    writer.close()
    return answered


async def test_an_inflated_body_counts_by_its_inflated_size(database_url: str, escalation: FakeEscalation) -> None:
    async with (
        running(database_url, escalation.target, http_max_request_bytes=1 << 17) as ingest,
        aiohttp.ClientSession() as http,
    ):
        org = new_org()
        _, key = await ingest.integration(org)
        sender = Sender(ingest, http, org, key)
        group = json.dumps({"version": "4", "alerts": [alert("f")], "x": "y" * 100_000}).encode()
        assert (await sender.post("/v1/alertmanager", gzip.compress(group), **{"Content-Encoding": "gzip"}))[0] == 200
        bomb = gzip.compress(b'{"x": "' + b"y" * (1 << 24) + b'"}')
        assert (await sender.post("/v1/alertmanager", bomb, **{"Content-Encoding": "gzip"}))[0] == 413
        assert (await sender.post("/v1/alertmanager", b"y" * (1 << 18)))[0] == 413
        assert await sender.keys() == {"f", "tocsin-refused-alerts"}
