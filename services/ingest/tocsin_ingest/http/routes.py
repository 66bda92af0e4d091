"""Routes."""

from collections.abc import Iterable

from aiohttp import web

from tocsin_ingest.app.directory import Directory
from tocsin_ingest.app.send_alert import AlertIntake


def routes(intake: AlertIntake, directory: Directory) -> Iterable[web.AbstractRouteDef]:
    """None yet."""
    return ()
