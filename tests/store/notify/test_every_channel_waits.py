"""Each channel over HTTP waits as long as its provider asks, in whichever form: also one that is written tomorrow."""

import uuid
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from aiohttp import web
from tocsin.notify.v1 import notification_pb2 as pb
from tocsin_notify.channels.base import Delivery, Target
from tocsin_notify.channels.registry import TYPES
from tocsin_notify.domain.attempt import Retryable
from tocsin_notify.domain.page import Channel, Kind
from tocsin_testkit.provider import Provider
from tocsin_testkit.push_service import VAPID_PRIVATE_KEY, Browser

from tests.store.notify.from_environment import open_channel
from tests.store.notify.support import ALLOWED

NO_HTTP = {Channel.EMAIL, Channel.CONSOLE, Channel.APPRISE}
"""Apprise's process tells yes or no and nothing else."""
NOW = datetime(2026, 11, 30, 3, 12, tzinfo=UTC)
LATER = {"Retry-After": format_datetime(NOW + timedelta(seconds=17), usegmt=True)}


def settings(url: str) -> dict[str, str]:
    providers = {f"{name}_BASE_URL": url for name in ("TWILIO", "SLACK", "TELEGRAM", "PUSHOVER")}
    return providers | {
        "NOTIFY_ALLOW_PRIVATE_WEBHOOKS": "true",
        "TWILIO_ACCOUNT_SID": "AC1",
        "TWILIO_AUTH_TOKEN": "t",
        "TWILIO_FROM": "+15005550006",
        "SLACK_BOT_TOKEN": "t",
        "TELEGRAM_BOT_TOKEN": "1:t",
        "PUSHOVER_TOKEN": "t",
        "VAPID_PRIVATE_KEY": VAPID_PRIVATE_KEY,
        "VAPID_SUBJECT": "mailto:operator@example.com",
    }


def targets(url: str) -> dict[Channel, tuple[str, str]]:
    """Address and secret."""
    return {
        Channel.WEBHOOK: (f"{url}/x", "s"),
        Channel.SMS: ("+4915112345678", ""),
        Channel.VOICE: ("+4915112345678", ""),
        Channel.NTFY: (f"{url}/topic", ""),
        Channel.PUSHOVER: ("", "u" * 30),
        Channel.TELEGRAM: ("11111111", ""),
        Channel.SLACK: ("UANA00001", ""),
        **dict.fromkeys((Channel.MATTERMOST, Channel.DISCORD, Channel.TEAMS), ("", f"{url}/x")),
        Channel.WEB_PUSH: ("", Browser("b", f"{url}/x").subscription),
    }


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "17"}, 17.0),
        ({**LATER, "Date": format_datetime(NOW, usegmt=True)}, 17.0),
        ({**LATER, "Date": format_datetime(NOW + timedelta(seconds=10), usegmt=True)}, 7.0),
        ({**LATER, "Date": ""}, 17.0),
    ],
)
async def test_each_waits_as_it_is_asked(status: int, headers: Mapping[str, str], seconds: float) -> None:
    assert set(targets("")) == set(TYPES) - NO_HTTP, "a new channel needs an address in `targets`"
    async with Refusing(status, headers) as server:
        page = pb.NotificationJob(page=f"pages/{uuid.uuid4()}", title="Disk full", level=1)
        for channel, (address, secret) in targets(server.url).items():
            sender, target = (
                open_channel(channel, settings(server.url)),
                Target(channel, address, secret.encode(), "k1"),
            )
            delivery = Delivery("k", uuid.uuid4(), "acme", Kind.NEW_INCIDENT, page, target, 1, NOW)
            outcome = await sender.send(delivery, ALLOWED)
            await sender.close()
            assert isinstance(outcome, Retryable), (channel, outcome)
            assert outcome.after == seconds, channel


class Refusing(Provider):
    """Refuses every request."""

    def __init__(self, status: int, headers: Mapping[str, str]) -> None:
        super().__init__()
        self._status, self._headers = status, headers

    def routes(self) -> Iterable[web.AbstractRouteDef]:
        return (web.route("*", "/{path:.*}", self._refuse),)

    async def _refuse(self, _: web.Request) -> web.Response:
        return web.Response(status=self._status, headers=self._headers)
