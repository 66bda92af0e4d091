"""A running Tocsin with the servers that people and systems are reached at, and the clock."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Self

import asyncpg
from tocsin_stack import tokens
from tocsin_stack.plan import StackSettings
from tocsin_stack.ports import free_port
from tocsin_stack.stack import Stack

from tocsin_testkit.clients import Channels, Clients
from tocsin_testkit.clock import MovableClock
from tocsin_testkit.hooks import HookServer
from tocsin_testkit.idle import until_idle
from tocsin_testkit.inbox import Inbox
from tocsin_testkit.mail import MailServer
from tocsin_testkit.owner_sessions import OwnerSessions
from tocsin_testkit.prepared import Prepared
from tocsin_testkit.twilio import TwilioServer

# Sweeps are the safety net under everything; tests that move time lean on them, so they come round quickly here. Not more often:
# an idle stack would spend its time on these checks, and a worker of the suite keeps a stack for its whole run.
QUICK = {
    "ESCALATION_SWEEP_SECONDS": "0.3",
    "ESCALATION_COUNTING_SECONDS": "0.5",
    "ESCALATION_NOTICE_LOOK_SECONDS": "1",
    "ESCALATION_RECONCILE_SECONDS": "1",
    "ESCALATION_RECONCILE_GRACE_SECONDS": "1",
    "INGEST_RECONCILE_SECONDS": "1",
    "INGEST_RECONCILE_GRACE_SECONDS": "1",
    "INGEST_QUIET_SECONDS": "1",
}

PUBLIC_URL = "https://tocsin.example.com/notify"
"""Where notify says that it is reached from outside. Its HTTP port is at `Installation.notify_url`."""

# The receivers of every test listen on the loopback interface, and all callers of all tests have its address.
LOCAL = {
    "NOTIFY_PUBLIC_URL": PUBLIC_URL,
    "NOTIFY_ALLOW_PRIVATE_WEBHOOKS": "true",
    "ESCALATION_ALLOW_PRIVATE_CALENDARS": "true",
    # One message tells of many pages above this number; tests ask for each page of each person.
    "NOTIFY_STORM_PAGES": "0",
    "AUTH_WRONG_PER_SECOND": "1e6",
    "AUTH_WRONG_BURST": "1e6",
}


class Installation:
    """The stack, the servers of mail, webhooks and phones, and the clock."""

    def __init__(
        self,
        data_dir: Path,
        *,
        replicas: int | Mapping[str, int] = 1,
        environment: Mapping[str, str] | None = None,
        quick: bool = True,
        prepared: Prepared | None = None,
    ) -> None:
        """`environment`: further settings of every service. Without `quick` the sweeps run as often as in production.

        `prepared`: migrated databases to begin with, instead of new ones.
        """
        self.inbox = Inbox()
        self.mail = MailServer(self.inbox)
        self.hooks = HookServer(self.inbox)
        self.phones = TwilioServer(self.inbox)
        self.reply_port = 0
        """Where replies to mails are taken; 0: nowhere, as several replicas cannot listen there."""
        self._data_dir = data_dir
        self._replicas = replicas
        self._prepared = prepared
        self._sessions = OwnerSessions()
        self._environment = LOCAL | (QUICK if quick else {}) | dict(environment or {})

    async def __aenter__(self) -> Self:
        if self._prepared:
            await self._prepared.copy_to(self._data_dir)
        await self.mail.start()
        await self.hooks.start()
        await self.phones.start()
        providers = {"SMTP_HOST": "127.0.0.1", "SMTP_PORT": str(self.mail.port), **self.phones.settings()}
        if self._replicas == 1:
            self.reply_port = free_port()
            providers |= {
                "NOTIFY_MAIL_LISTEN": f"127.0.0.1:{self.reply_port}",
                "NOTIFY_MAIL_DOMAIN": "reply.example.com",
            }
        self.stack = Stack(
            StackSettings(
                data_dir=self._data_dir,
                replicas=self._replicas,
                environment=providers | self._environment,
                fsync=False,
            )
        )
        await self.stack.__aenter__()
        self.phones.reach[PUBLIC_URL] = self.notify_url
        self.clock = MovableClock(self.stack.plan.databases.values(), self._sessions.execute)
        self.channels = Channels({name: self.stack.plan.target(name) for name in self.stack.services})
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.channels.close()
        await self._sessions.close()
        await self.stack.stop()
        await self.phones.stop()
        await self.hooks.stop()
        await self.mail.stop()

    def token(
        self, org_id: str, scopes: Sequence[str] = tokens.ADMINISTRATOR, *, subject: str = "users/operator"
    ) -> str:
        """A credential the stack trusts."""
        return tokens.mint(self.stack.plan.signing_keys, org_id, scopes, subject=subject)

    def clients(self, org_id: str, *, subject: str = "users/operator") -> Clients:
        """Every service, as an administrator of a tenant."""
        return Clients(self.channels, self.token(org_id, subject=subject))

    @property
    def notify_url(self) -> str:
        """Where PUBLIC_URL really leads."""
        return str(self.stack.services["notify"][0].http_url)

    def operator(self) -> Clients:
        """Every service, as the operator of the installation."""
        return Clients(self.channels, self.token(tokens.ALL_ORGS, tokens.OPERATOR))

    async def passes(self, *, minutes: float = 0, seconds: float = 0) -> None:
        """Time passes for everybody, and everything that falls due happens."""
        await self.idle()
        await self.clock.forward(timedelta(minutes=minutes, seconds=seconds))
        await self.idle()

    async def idle(self) -> None:
        """Wait until nothing is due and nothing is under way anywhere."""
        await until_idle(self.stack.plan.databases, self._sessions)

    def ended(self) -> list[str]:
        """Which services have ended, by themselves or because a test did not start them again; with their last lines."""
        children = [process.process for replicas in self.stack.services.values() for process in replicas]
        return [
            f"{child.output.name} exited with {child.returncode}\n{child.output.tail()}"
            for child in children
            if child.returncode is not None
        ]

    async def database(self, service: str) -> asyncpg.Connection:
        """A connection to a service's database that sees every tenant. For tests about rows; close it."""
        return await asyncpg.connect(self.stack.plan.databases[service], server_settings={"tocsin.org_id": "*"})
