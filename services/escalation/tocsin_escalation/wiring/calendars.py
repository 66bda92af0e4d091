"""Calendars that schedules import, and feeds of shifts, connected. A part of `wiring`."""

from collections.abc import Awaitable, Callable
from datetime import timedelta

from tocsin_kit.lifecycle import Runtime
from tocsin_kit.loops import Sweep
from tocsin_kit.rpc.paging import PageTokens
from tocsin_kit.secret_boxes import Boxes, secret_keys

from tocsin_escalation.app.schedules.calendar_feeds import CalendarFeeds
from tocsin_escalation.app.schedules.calendar_imports import PURPOSE, CalendarImports, ReadCalendars
from tocsin_escalation.clients.calendar_source import CalendarSource
from tocsin_escalation.http.calendars import Calendars, path_of
from tocsin_escalation.metrics import EscalationMetrics
from tocsin_escalation.rpc.calendar_service import CalendarService
from tocsin_escalation.settings import EscalationSettings


def serve_calendars(
    runtime: Runtime[EscalationSettings], metrics: EscalationMetrics, pages: PageTokens
) -> Callable[[], Awaitable[object]]:
    """Add the service, the routes of feeds, and the loops that read imported calendars; what closes the connections."""
    settings, db = runtime.settings, runtime.database
    boxes = Boxes(secret_keys(settings.secret_key, settings.signing_keys), PURPOSE)
    source = CalendarSource(allow_private=settings.allow_private_calendars)
    reading = ReadCalendars(
        db,
        source,
        boxes,
        metrics,
        every_seconds=settings.calendar_fetch_seconds,
        stale_after=timedelta(seconds=settings.calendar_stale_seconds),
    )
    rounds = Sweep(min(5.0, settings.calendar_fetch_seconds), reading.round)
    runtime.rpc.add(
        CalendarService(
            db,
            pages,
            runtime.rpc.budgets,
            lambda secret: settings.public_url.rstrip("/") + path_of(secret),
            CalendarImports(boxes, rounds.nudge, allow_private=settings.allow_private_calendars),
        )
    )
    if runtime.serves:
        runtime.http.add_routes(Calendars(CalendarFeeds(db), runtime.rpc).routes())
    runtime.loops.add("calendars", rounds)
    runtime.loops.add("stale-calendars", Sweep(min(60.0, settings.calendar_stale_seconds), reading.watch))
    return source.close
