"""Amazon SNS: hosts that answer for it on this machine, and messages with its signatures."""

import asyncio
import base64
import contextlib
import ssl
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.hashes import SHA1, SHA256

from tests.certificates import make_certificates

HOST = "sns.eu-west-1.amazonaws.com"
TOPIC = "arn:aws:sns:eu-west-1:123456789012:alarms"
_SIGNED = ("Message", "MessageId", "Subject", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type")


class Amazon:
    """`asked`: what was asked of its hosts. `away`: they answer 503. `refuses`: they answer this. `hold`: until then they answer
    nothing that is called slow.
    """

    def __init__(self, folder: Path) -> None:
        self.key = generate_private_key(65537, 2048)
        self.files = make_certificates(folder, HOST, key=self.key)
        self.asked: list[str] = []
        self.away = False
        self.refuses = 0
        self.hold = asyncio.Event()

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.append(request.path_qs)
        if "slow" in request.path:
            await self.hold.wait()
        if self.away or self.refuses:
            return web.Response(status=self.refuses or 503)
        return web.Response(body=self.files.certificate.read_bytes() if request.path.endswith(".pem") else b"<ok/>")

    def message(self, kind: str, version: str = "2", **fields: str) -> dict[str, Any]:
        """As SNS posts it."""
        body: dict[str, Any] = {
            "Type": kind,
            "MessageId": str(uuid.uuid4()),
            "TopicArn": TOPIC,
            "Timestamp": "2026-03-14T03:07:11.953Z",
            "SignatureVersion": version,
            "SigningCertURL": f"https://{HOST}/SimpleNotificationService-0123456789abcdef.pem",
            **fields,
        }
        text = "".join(f"{name}\n{body[name]}\n" for name in _SIGNED if name in body)
        algorithm = SHA256() if version == "2" else SHA1()
        return body | {"Signature": base64.b64encode(self.key.sign(text.encode(), PKCS1v15(), algorithm)).decode()}


@contextlib.asynccontextmanager
async def amazon_hosts(folder: Path) -> AsyncIterator[Amazon]:
    """Its hosts behind a proxy, which the environment names: nothing of this leaves the machine."""
    amazon = Amazon(folder)
    app = web.Application()
    app.router.add_get("/{path:.*}", amazon.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(amazon.files.certificate, amazon.files.key)
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    port = runner.addresses[0][1]

    async def tunnel(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await asyncio.gather(_pump(reader, inner_writer), _pump(inner_reader, writer))

    proxy = await asyncio.start_server(tunnel, "127.0.0.1", 0)
    with pytest.MonkeyPatch.context() as environment:
        # In capitals alone: gRPC looks for the other spelling.
        environment.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.sockets[0].getsockname()[1]}")
        environment.setenv("SSL_CERT_FILE", str(amazon.files.authority))
        try:
            yield amazon
        finally:
            proxy.close()
            await runner.cleanup()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(1 << 14):
            writer.write(data)
            await writer.drain()
    writer.close()
