"""Integration keys: made here, shown once, stored as a hash."""

from datetime import timedelta

from tocsin.ingest.v1.integration_service_pb2 import CreateIntegrationRequest, RotateIntegrationKeyRequest
from tocsin_kit.db.pool import Tx
from tocsin_kit.keys.secret import SHOWN, key_hash, new_key

from tocsin_ingest.app.integrations.directory import KEY_PREFIX
from tocsin_ingest.app.integrations.mail_addresses import word_of
from tocsin_ingest.store.integrations import integrations


async def issue_key(tx: Tx, integration_id: str, lifetime: timedelta | None, grace: timedelta = timedelta(0)) -> str:
    """A new key of the integration, which works for `lifetime` (None: for good); those before it work for `grace` longer."""
    key = new_key(KEY_PREFIX)
    await integrations.retire_keys(tx, integration_id, grace)
    mail_digest = key_hash(word_of(key))
    await integrations.insert_key(tx, integration_id, key_hash(key), key[:SHOWN], lifetime, mail_digest)
    return key


def lifetime_of(request: CreateIntegrationRequest | RotateIntegrationKeyRequest) -> timedelta | None:
    """How long the key that is asked for works."""
    return request.key_lifetime.ToTimedelta() if request.HasField("key_lifetime") else None
