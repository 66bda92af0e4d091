"""Where senders come in by HTTP and by mail. A part of `wiring`."""

from collections.abc import Awaitable, Callable
from functools import partial

from tocsin_kit.loops import Sweep
from tocsin_kit.mail.server import MailServer
from tocsin_kit.rpc.tls import server_context

from tocsin_ingest.app.alerts.intake_times import EVERY
from tocsin_ingest.http import heartbeat
from tocsin_ingest.http.body import Bodies
from tocsin_ingest.http.fetcher import Fetcher
from tocsin_ingest.http.receiver import Shared
from tocsin_ingest.http.routes import routes
from tocsin_ingest.mail.receiver import MailReceiver
from tocsin_ingest.rpc.alert_service import note_refused_call
from tocsin_ingest.wiring.base import Base

Close = Callable[[], Awaitable[object]]


def serve_receivers(base: Base) -> list[Close]:
    """Add the routes, the mail server if there is one, and what notes when alerts could be taken; what closes them."""
    runtime, settings = base.runtime, base.settings
    base.directory.watch_expired(base.refusals.key_expired)
    runtime.rpc.credentials.watch_elsewhere(base.refusals.used_elsewhere)
    runtime.rpc.watch_refused(partial(note_refused_call, base.times))
    runtime.loops.add("intake-times", Sweep(EVERY, base.times.round), everywhere=True)
    fetcher = Fetcher()
    bodies = Bodies(limit=settings.http_max_request_bytes, budget=settings.http_max_body_bytes)
    shared = Shared(base.intake, base.directory, runtime.rpc, base.refusals, bodies, fetcher)
    runtime.http.add_routes(routes(shared))
    runtime.http.add_routes(heartbeat.routes(base.heartbeats, base.times, base.directory, runtime.rpc))
    return [fetcher.close, _serve_mail(base)] if settings.mail_listen else [fetcher.close]


def _serve_mail(base: Base) -> Close:
    runtime, settings = base.runtime, base.settings
    receiver = MailReceiver(
        *(settings.mail_domain, base.db, base.intake, base.directory),
        *(runtime.rpc.credentials, base.budgets, base.refusals),
    )
    mails = MailServer(
        settings.mail_listener, receiver, server_context(settings), base.metrics.mail_refused, runtime.stop
    )
    runtime.loops.add("mail", mails.run, everywhere=True)
    return mails.close
