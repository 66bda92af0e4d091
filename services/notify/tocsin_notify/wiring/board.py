"""The board, connected. A part of `wiring`."""

from collections.abc import Callable, Coroutine
from typing import Any, Final

from tocsin_kit.auth import Principal
from tocsin_kit.lifecycle import Runtime
from tocsin_kit.oidc import OidcAuthenticator
from tocsin_kit.rpc.client import channel
from tocsin_kit.rpc.tls import client_credentials
from tocsin_kit.secret_boxes import Boxes

from tocsin_notify.clients.outboxes import Outboxes
from tocsin_notify.clients.queues import Queues
from tocsin_notify.http.board import Board
from tocsin_notify.http.board_oidc import OidcClient, OidcLogin
from tocsin_notify.settings import NotifySettings

_PURPOSE: Final = b"board login"
_WITH_QUEUES: Final = ("escalation", "notify")


def serve_board(runtime: Runtime[NotifySettings]) -> Callable[[], Coroutine[Any, Any, None]]:
    """Add its routes; what closes it is returned."""
    settings = runtime.settings
    targets = {
        "ingest": settings.ingest_target,
        "escalation": settings.escalation_target,
        "notify": settings.notify_target,
    }
    # Without a credential: each call shows that of the operator.
    tls = client_credentials(settings)
    channels = {name: channel(target, service_name=name, tls=tls) for name, target in targets.items()}
    issuer = OidcAuthenticator(settings.board_oidc_issuer, audience=settings.board_oidc_client_id)

    def judge(token: str, peer: Callable[[], str]) -> Coroutine[Any, Any, Principal]:
        return runtime.rpc.credentials.judge(runtime.authenticators, token, peer)

    if runtime.serves:
        queues = Queues({name: channels[name] for name in _WITH_QUEUES})
        board = Board(queues, Outboxes(channels), judge, runtime.stop, _login(settings, issuer))
        runtime.http.add_operator_routes(board.routes())

    async def close() -> None:
        await issuer.close()
        for each in channels.values():
            await each.close()

    return close


def _login(settings: NotifySettings, issuer: OidcAuthenticator) -> OidcLogin | None:
    if not settings.board_oidc_issuer:
        return None
    client = OidcClient(
        url=settings.board_url,
        client_id=settings.board_oidc_client_id,
        client_secret=settings.board_oidc_client_secret.get_secret_value(),
        asked=settings.board_oidc_scopes,
        claim=settings.board_oidc_claim,
        readers=_names(settings.board_oidc_readers),
        writers=_names(settings.board_oidc_writers),
    )
    return OidcLogin(issuer, client, settings.signing_keys, Boxes(settings.encryption_keys, _PURPOSE))


def _names(listed: str) -> frozenset[str]:
    return frozenset(filter(None, (each.strip() for each in listed.split(","))))
