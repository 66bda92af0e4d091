"""Settings of notify that its own wiring hands to what works by them."""

from tocsin_notify.settings import NotifySettings
from tocsin_notify.wiring import build

from tests.wired import loop_of, wired


async def test_how_many_tasks_and_mails_are_taken_at_once(database_url: str) -> None:
    mails = {"NOTIFY_MAIL_LISTEN": "127.0.0.1:0", "NOTIFY_MAIL_DOMAIN": "reply.example.com"}
    for number in (7, 9):
        environment = {
            "NOTIFY_WORKER_CONCURRENCY": str(number),
            "NOTIFY_MAIL_MAX_CONNECTIONS": str(number),
            **mails,
        }
        async with wired("notify", NotifySettings, build, database_url, **environment) as runtime:
            assert loop_of(runtime, "worker").__self__._concurrency == number
            assert loop_of(runtime, "mail").__self__.settings.max_connections == number
