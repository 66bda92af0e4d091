"""PagerDuty's own Python client, which posts by the https listener that `make up` has, and trusts its certificate."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pagerduty
from tocsin_stack import certificates
from tocsin_stack.ports import free_port
from tocsin_stack.tls_listener import TlsListener


class Client:
    """Its events, and the status of each answer that it had; it sleeps a twentieth of a second where it would sleep for three."""

    def __init__(self, url: str, authority: Path, key: str) -> None:
        self.answers: list[int] = []
        trusted = ssl.create_default_context(cafile=authority)
        heard = {"response": [lambda response: self.answers.append(response.status_code)]}
        self._client = pagerduty.EventsApiV2Client(key, base_url=url, verify=trusted, event_hooks=heard)
        self._client.sleep_timer = 0.025

    async def __call__(self, method: str, *given: Any, **fields: Any) -> Any:
        """What a method of it returns. Raises `pagerduty.HttpError`."""
        return await asyncio.to_thread(getattr(self._client, method), *given, **fields)

    def close(self) -> None:
        """Its connections."""
        self._client.close()


@contextlib.asynccontextmanager
async def posting(folder: Path, address: str, *keys: str) -> AsyncIterator[list[Client]]:
    """A client with each key; what they post goes to ingest's HTTP address."""
    listener = TlsListener(free_port(), certificates.kept(folder / "tls", "localhost"), address)
    await listener.start()
    clients = [Client(listener.url, listener.files.authority, key) for key in keys]
    try:
        yield clients
    finally:
        for each in clients:
            each.close()
        await listener.stop()
