"""Receives what the tasks of the stream carry; it is put into the broker's state once it is built (`work.tasks`)."""

from collections.abc import Callable, Sequence
from typing import Final
from uuid import UUID

from tocsin.notify.v1.notification_pb2 import NotificationJob
from tocsin_kit.batches import Batches
from tocsin_kit.errors import TocsinError
from tocsin_kit.logging import get_logger
from tocsin_kit.rpc.validation import validate

from tocsin_notify.app.delivery.claim import MOST_PER_CLAIM
from tocsin_notify.app.delivery.deliver import Deliver
from tocsin_notify.app.pages.intake import Intake
from tocsin_notify.app.pages.jobs import read_job
from tocsin_notify.store.pages.pages import NewPage

_log = get_logger(__name__)


class Arrivals:
    """Pages from escalation, and reminders that a notification or a message is due."""

    def __init__(self, intake: Intake, deliver: Deliver, release: Callable[[], None]) -> None:
        """`release`: tells the loop that releases messages that one is due."""
        self.release: Final = release
        self._intake = intake
        self._deliver: Final = deliver
        self._reminders: Batches[UUID, None] = Batches(self._deliver_all, most=MOST_PER_CLAIM)

    async def submit(self, job: NotificationJob) -> None:
        """Returns once the page is stored. Raises INVALID_FIELD and what `Intake.submit` raises."""
        if self._intake.has(job.page):
            await self._intake.stored([job.page])
            return
        validate(job, "job")
        await self._intake.submit([read_job(job)])

    async def submit_all(self, jobs: Sequence[NotificationJob]) -> None:
        """Returns once these pages are stored. Raises what `Intake.submit` raises; some of them may be stored then.

        A page that breaks a rule is dropped here: its copy that comes by RPC is refused with the reason.
        """
        copies = [job.page for job in jobs if self._intake.has(job.page)]
        known = set(copies)
        pages = [page for job in jobs if job.page not in known and (page := _read(job)) is not None]
        if pages:
            await self._intake.submit(pages)
        await self._intake.stored(copies)

    async def deliver(self, id: UUID) -> None:
        """Returns once its call has begun, if it is due and a slot is free."""
        await self._reminders.submit(id)

    async def drain(self) -> None:
        """Return when no page is being stored and no reminder is under way."""
        await self._intake.drain()
        await self._reminders.drain()

    async def _deliver_all(self, ids: list[UUID]) -> list[None]:
        await self._deliver.named(ids)
        return [None] * len(ids)


def _read(job: NotificationJob) -> NewPage | None:
    try:
        validate(job, "job")
        return read_job(job)
    except TocsinError as error:
        _log.warning("page_left_to_rpc", org_id=job.org_id, page=job.page, error=error.message)
        return None
