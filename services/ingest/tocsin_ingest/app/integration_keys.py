"""Integration keys: made here, shown once, stored as a hash."""

import base64
import secrets
from datetime import timedelta
from typing import Final

from tocsin.ingest.v1.integration_service_pb2 import CreateIntegrationRequest, RotateIntegrationKeyRequest
from tocsin_kit.db.pool import Tx

from tocsin_ingest.app.directory import KEY_PREFIX
from tocsin_ingest.store import integrations

_RANDOM_BYTES: Final = 32
_SHOWN: Final = 8
"""Characters of a key that tell it from others, `tik_` included; the 39 that are left cannot be guessed."""


async def issue_key(tx: Tx, integration_id: str, lifetime: timedelta | None, grace: timedelta = timedelta(0)) -> str:
    """A new key of the integration, which works for `lifetime` (None: for good); those before it work for `grace` longer."""
    key = KEY_PREFIX + base64.urlsafe_b64encode(secrets.token_bytes(_RANDOM_BYTES)).decode().rstrip("=")
    await integrations.retire_keys(tx, integration_id, grace)
    await integrations.insert_key(tx, integration_id, integrations.key_hash(key), key[:_SHOWN], lifetime)
    return key


def lifetime_of(request: CreateIntegrationRequest | RotateIntegrationKeyRequest) -> timedelta | None:
    """How long the key that is asked for works."""
    return request.key_lifetime.ToTimedelta() if request.HasField("key_lifetime") else None
