"""Try dead letters again."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from uuid import UUID

from tocsin.notify.v1.notification_pb2 import NotificationJob
from tocsin_kit.db.pool import Tx
from tocsin_kit.errors import TocsinError
from tocsin_kit.ids import new_id
from tocsin_kit.logging import get_logger

from tocsin_notify.app.delivery.hints import Hints
from tocsin_notify.app.pages.jobs import read_kept
from tocsin_notify.app.pages.own_pages import store_planned
from tocsin_notify.domain.page import DeathReason, Method, Rule
from tocsin_notify.domain.planning import plan
from tocsin_notify.metrics import NotifyMetrics
from tocsin_notify.store.delivery import dead_letters, notifications
from tocsin_notify.store.delivery.dead_letters import DeadLetter, NewDeadLetter
from tocsin_notify.store.messages import groups
from tocsin_notify.store.pages import pages, people
from tocsin_notify.store.pages.pages import NewPage

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Redrive:
    """Everything happens in the caller's transaction; what is due again is delivered after its commit.

    A notification gets fresh attempts under a new delivery key. A page for which no notification could be made is
    planned again, by the user's present methods. A group message that had no receivers is sent to the present members
    of its group. A job that could not be read is read again, by the present code. What fails once more is a new dead
    letter.
    """

    hints: Hints
    metrics: NotifyMetrics
    read_raw: Callable[[bytes], Sequence[NotificationJob]]
    """Raises ValueError for a job that still cannot be read."""

    async def __call__(self, tx: Tx, ids: Sequence[UUID]) -> set[UUID]:
        """Returns the dead letters that were found waiting."""
        letters = await dead_letters.take(tx, ids)
        named = {letter.notification_id: letter for letter in letters if letter.notification_id is not None}
        revived = await notifications.redrive(tx, list(named))
        due = [id for id, state in revived.items() if state == "pending"]
        tx.after_commit(lambda: self.hints.now(due))
        for letter in letters:
            if letter.page_id is not None and await groups.send_again(tx, letter.org_id, letter.page_id):
                continue
            if letter.notification_id not in revived:
                await self._again(tx, letter)
        return {letter.id for letter in letters}

    async def _again(self, tx: Tx, letter: DeadLetter) -> None:
        try:
            read = (
                self.read_raw(letter.raw) if letter.raw is not None else [NotificationJob.FromString(letter.job or b"")]
            )
            found = [read_kept(job) for job in read]
        except (ValueError, TocsinError) as error:
            await self._keep(tx, letter, f"still cannot be read: {error}")
            return
        for page in found:
            await self._plan(tx, letter, page)

    async def _plan(self, tx: Tx, letter: DeadLetter, page: NewPage) -> None:
        if tx.org_id not in ("*", page.org_id):
            raise RuntimeError("a dead letter holds another tenant's job")
        fence = await pages.ensure(tx, page)
        planned = plan(page.page, *(await self._person(tx, page)))
        if planned or fence is not None:
            await store_planned(tx, page, planned, self.hints, fence)
        else:
            await self._keep(tx, letter, f"{page.user_id} still has no verified and enabled contact method", page)

    async def _person(self, tx: Tx, page: NewPage) -> tuple[list[Method], list[Rule]]:
        person = (await people.read(tx, [(page.org_id, page.user_id)]))[page.org_id, page.user_id]
        return person.methods, person.rules

    async def _keep(self, tx: Tx, letter: DeadLetter, detail: str, page: NewPage | None = None) -> None:
        reason = DeathReason.NO_CONTACT_METHOD if page else DeathReason(letter.reason)
        _log.error("redriven_in_vain", org_id=letter.org_id, dead_letter=str(letter.id), detail=detail)
        self.metrics.dead_letters.labels(reason).inc()
        await dead_letters.insert(
            tx,
            [
                NewDeadLetter(
                    id=new_id(),
                    org_id=page.org_id if page else letter.org_id,
                    notification_id=None,
                    page_id=page.id if page else letter.page_id,
                    user_id=page.user_id if page else letter.user_id,
                    incident=page.incident if page else letter.incident,
                    reason=reason,
                    detail=detail,
                    job=page.job.SerializeToString() if page else letter.job,
                    raw=None if page else letter.raw,
                )
            ],
        )
