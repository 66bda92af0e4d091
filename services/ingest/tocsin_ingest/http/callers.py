"""The sender of a request: the integration of an integration key."""

from aiohttp import web
from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin_kit.errors import TocsinError
from tocsin_kit.rpc.server import RpcServer

from tocsin_ingest.app.alerts.alert_request import Sender
from tocsin_ingest.app.integrations.directory import KEY_PREFIX, Directory


async def sender_of(rpc: RpcServer, directory: Directory, key: str, request: web.Request) -> Sender:
    """Raises CREDENTIAL_MISSING, CREDENTIAL_INVALID, SOURCE_NOT_ALLOWED, RATE_LIMITED."""
    if not key:
        raise TocsinError(
            ErrorReason.ERROR_REASON_CREDENTIAL_MISSING,
            "send an integration key: `Authorization: Bearer <key>`, or where the format has its place for it",
        )
    peer = request.remote or ""
    try:
        return Sender.of(await rpc.credentials.judge((directory,), key, lambda: peer, way="http"))
    except TocsinError as error:
        if error.reason != ErrorReason.ERROR_REASON_CREDENTIAL_INVALID or key.startswith(KEY_PREFIX):
            raise
        # Those who call the RPCs have a token, and try it here first.
        raise TocsinError(
            error.reason, f"only integration keys are taken here, which begin with {KEY_PREFIX}; this is none"
        ) from error


def clean_key(key: str) -> str:
    """Spaces and line ends are often copied together with a key."""
    return "".join(key.split())
