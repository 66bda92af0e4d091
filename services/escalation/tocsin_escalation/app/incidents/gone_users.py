"""No level waits for the answer of a user who is disabled or deleted after a provider has accepted their page.

They cannot answer any more, so their page counts as one that did not reach them: if no other user of the level may answer, the next
level starts at once. Pages that no provider has accepted are notify's: it tells their outcomes itself.
"""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from tocsin.notify.v1 import internal_service_pb2 as pb
from tocsin_kit.db.pool import Database

from tocsin_escalation.app.incidents.apply_outcomes import OutcomeArrival, apply_outcomes
from tocsin_escalation.app.incidents.effects import Effects
from tocsin_escalation.domain.escalation import PagedRun
from tocsin_escalation.domain.events import OutcomeKind, PageOutcome
from tocsin_escalation.domain.outcomes import sent_to
from tocsin_escalation.store.incidents import pages
from tocsin_escalation.store.people import directory

_TOGETHER: Final = 100
"""Incidents."""
_GONE: Final = {pb.USER_STANDING_DISABLED: "disabled", pb.USER_STANDING_DELETED: "deleted"}


class GoneUsers:
    """Applies changes of users to the incidents that wait for them. Applying one twice changes nothing."""

    def __init__(self, db: Database, effects: Effects) -> None:
        self._db = db
        self._effects = effects

    async def __call__(self, changes: Sequence[pb.UserChange]) -> None:
        """Committed when it returns. Raises DATABASE_UNAVAILABLE, CONFLICT."""
        for change in changes:
            if change.standing in _GONE:
                await self._leave(change.org_id, change.user.removeprefix("users/"), _GONE[change.standing])

    async def _leave(self, org_id: str, user: str, how: str) -> None:
        after = UUID(int=0)
        while True:
            async with self._db.transaction(org_id) as tx:
                row = await directory.get_user(tx, user)
                if row is not None and not row.disabled:
                    return  # enabled again, or another user of the same id
                runs = await pages.waiting_for(tx, user, after, _TOGETHER)
            outcomes = [each for run in runs for each in _outcomes(run, user, how)]
            if outcomes:
                await apply_outcomes(self._db, self._effects, outcomes)
            if len(runs) < _TOGETHER:
                return
            after = runs[-1].incident_id


def _outcomes(run: PagedRun, user: str, how: str) -> list[OutcomeArrival]:
    why = f"the user was {how} after their page had been accepted"
    return [
        OutcomeArrival(
            run.org_id,
            run.incident_id,
            PageOutcome(page, user, OutcomeKind.UNREACHABLE, run.level, reason=why, undelivered=True),
        )
        for page in sent_to(run, user)
    ]
