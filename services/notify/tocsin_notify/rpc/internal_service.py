"""NotifyInternalService: pages in, pages stopped."""

from collections.abc import Sequence
from datetime import UTC
from typing import Any, Final

from tocsin.notify.v1 import internal_service_pb2 as pb
from tocsin.notify.v1 import internal_service_pb2_grpc as grpc_pb
from tocsin.notify.v1.notification_pb2 import NotificationJob
from tocsin_kit.db.pool import Database
from tocsin_kit.errors import FieldViolation, TocsinError, invalid_fields
from tocsin_kit.ids import parse_uuid_name
from tocsin_kit.rpc.call import current_call
from tocsin_kit.rpc.raw_fields import takes_bytes
from tocsin_kit.rpc.validation import validate

from tocsin_notify.app.contacts.user_changes import UserChange, UserChanges, UserEvent
from tocsin_notify.app.events.publish_events import PublishEvents
from tocsin_notify.app.pages.cancel import Cancel, fences_of
from tocsin_notify.app.pages.intake import Intake
from tocsin_notify.app.pages.jobs import read_job
from tocsin_notify.domain.reach import why_unreachable
from tocsin_notify.rpc import mapping
from tocsin_notify.store.delivery import reads
from tocsin_notify.store.pages import pages, people
from tocsin_notify.store.pages.pages import NewPage

_MOST_DESCRIBED: Final = 100
_MOST_JOBS: Final = 1000
"""As the contract says."""
_STANDINGS: Final = {
    pb.USER_STANDING_ENABLED: UserEvent.ENABLED,
    pb.USER_STANDING_DISABLED: UserEvent.DISABLED,
    pb.USER_STANDING_DELETED: UserEvent.DELETED,
}


class NotifyInternalService(grpc_pb.NotifyInternalServiceServicer):
    """Decode, call, encode."""

    def __init__(
        self, db: Database, intake: Intake, cancel: Cancel, publish: PublishEvents, users: UserChanges
    ) -> None:
        self._db = db
        self._users = users
        self._publish = publish
        self._intake = intake
        self._cancel = cancel

    @takes_bytes
    async def SubmitNotifications(self, data: bytes, context: Any) -> bytes:
        """See the contract. For most jobs this process has stored, or is storing, the copy that came through Redis."""
        current_call().require_internal()
        request = pb.SubmitNotificationsRequest.FromString(data)
        copies = [self._intake.has(job.page) for job in request.jobs]
        if not any(copies) or len(copies) > _MOST_JOBS:
            validate(request)
        read = self._read(request.jobs, copies)
        stored = sum(await self._intake.submit(read)) if read else 0
        await self._intake.stored(job.page for job, copy in zip(request.jobs, copies, strict=True) if copy)
        return pb.SubmitNotificationsResponse(stored=stored).SerializeToString()

    def _read(self, jobs: Sequence[NotificationJob], copies: Sequence[bool]) -> list[NewPage]:
        """The jobs that are no copies. Raises INVALID_FIELD."""
        found: list[FieldViolation] = []
        read = []
        validated = not any(copies)
        for index, (job, copy) in enumerate(zip(jobs, copies, strict=True)):
            if copy:
                continue
            try:
                if not validated:
                    validate(job)
                read.append(read_job(job))
            except TocsinError as error:
                found += [FieldViolation(f"jobs[{index}].{each.field}", each.description) for each in error.fields]
        if found:
            raise invalid_fields(found)
        return read

    async def PublishIncidentEvents(
        self, request: pb.PublishIncidentEventsRequest, context: Any
    ) -> pb.PublishIncidentEventsResponse:
        """See the contract."""
        current_call().require_internal()
        return pb.PublishIncidentEventsResponse(stored=await self._publish(request.events))

    async def ComparePages(self, request: pb.ComparePagesRequest, context: Any) -> pb.ComparePagesResponse:
        """See the contract."""
        current_call().require_internal()
        claims = [
            (each.org_id, parse_uuid_name(each.page, "pages", field=f"pages[{index}].page"))
            for index, each in enumerate(request.pages)
        ]
        async with self._db.system() as tx:
            known = await pages.known(tx, claims)
        return pb.ComparePagesResponse(
            known=[claim in known for claim in claims], stopped=[known.get(claim, 0) for claim in claims]
        )

    async def CheckReachability(
        self, request: pb.CheckReachabilityRequest, context: Any
    ) -> pb.CheckReachabilityResponse:
        """See the contract."""
        org_id = current_call().acting_for(request.org_id)
        users = list(dict.fromkeys(request.users))
        async with self._db.transaction(org_id) as tx:
            known = await people.read(tx, [(org_id, user) for user in users])
        reasons = [(user, why_unreachable(known[org_id, user].methods)) for user in users]
        return pb.CheckReachabilityResponse(
            unreachable=[pb.UnreachableUser(user=user, reason=reason) for user, reason in reasons if reason]
        )

    async def ExplainDeliveries(
        self, request: pb.ExplainDeliveriesRequest, context: Any
    ) -> pb.ExplainDeliveriesResponse:
        """See the contract."""
        org_id = current_call().acting_for(request.org_id)
        wanted = reads.Filter(
            incident=parse_uuid_name(request.incident, "incidents", field="incident"), user=request.user
        )
        async with self._db.transaction(org_id) as tx:
            rows = await reads.notifications(tx, wanted, mapping.LAST, _MOST_DESCRIBED)
            attempts = await reads.attempts_of(tx, [row.id for row in rows])
            person = (await people.read(tx, [(org_id, request.user)]))[org_id, request.user]
        channels = {method.id: str(method.channel) for method in person.methods}
        return pb.ExplainDeliveriesResponse(
            notifications=[mapping.notification_to(row, attempts.get(row.id, ())) for row in reversed(rows)],
            unreachable_reason=why_unreachable(person.methods),
            rules=[
                f"{rule.urgency} urgency: {channels.get(rule.method, 'a deleted contact method')}"
                f" {f'after {rule.delay:g} s' if rule.delay else 'at once'}"
                for rule in person.rules
            ],
            quiet_hours=str(person.settings.quiet) if person.settings.quiet and person.settings.quiet.windows else "",
        )

    async def CancelNotifications(
        self, request: pb.CancelNotificationsRequest, context: Any
    ) -> pb.CancelNotificationsResponse:
        """See the contract."""
        current_call().require_internal()
        stopped = await self._cancel(fences_of(request.cancellations))
        return pb.CancelNotificationsResponse(cancelled=stopped.cancelled, crossed=stopped.crossed)

    async def ApplyUserChanges(self, request: pb.ApplyUserChangesRequest, context: Any) -> pb.ApplyUserChangesResponse:
        """See the contract."""
        current_call().require_internal()
        await self._users(
            [
                UserChange(each.org_id, each.user, _STANDINGS[each.standing], each.change_time.ToDatetime(UTC))
                for each in request.changes
            ]
        )
        return pb.ApplyUserChangesResponse()
