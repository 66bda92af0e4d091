"""DigestService: decode, call one use case, encode."""

from collections.abc import Sequence
from typing import Any, Final

from tocsin.notify.v1 import digest_pb2
from tocsin.notify.v1 import digest_service_pb2 as pb
from tocsin.notify.v1 import digest_service_pb2_grpc as pb_grpc
from tocsin_kit.budgets import Budgets
from tocsin_kit.db.pool import Database, Tx
from tocsin_kit.errors import invalid
from tocsin_kit.ids import parse_uuid_name
from tocsin_kit.rpc.apply_once import ApplyOnce
from tocsin_kit.rpc.call import current_call, note_before, tenant
from tocsin_kit.rpc.listing import listed
from tocsin_kit.rpc.masks import etag
from tocsin_kit.rpc.paging import PageTokens
from tocsin_kit.rpc.timestamps import timestamp

from tocsin_notify.app.messages import digests
from tocsin_notify.app.messages.digests import Preview
from tocsin_notify.channels.digests import FREQUENCIES, TO_FREQUENCIES
from tocsin_notify.clients.escalation import Escalation
from tocsin_notify.domain import digest_content, digest_html
from tocsin_notify.domain.digest import Frequency, WhenEmpty
from tocsin_notify.store.messages import digests as store
from tocsin_notify.store.messages.digests import Choice, Digest
from tocsin_notify.texts.digest_words import digest_words_of

_SCOPE: Final = "contacts:write"
_WHEN_EMPTY: Final = {
    pb.WHEN_EMPTY_UNSPECIFIED: WhenEmpty.NOTHING,
    pb.WHEN_EMPTY_NOTHING: WhenEmpty.NOTHING,
    pb.WHEN_EMPTY_ONE_LINE: WhenEmpty.ONE_LINE,
}
_TO_WHEN_EMPTY: Final = {
    WhenEmpty.NOTHING: pb.WHEN_EMPTY_NOTHING,
    WhenEmpty.ONE_LINE: pb.WHEN_EMPTY_ONE_LINE,
}


class DigestService(pb_grpc.DigestServiceServicer):
    """What happened, once a day or a week."""

    def __init__(
        self, db: Database, escalation: Escalation, preview: Preview, pages: PageTokens, budgets: Budgets
    ) -> None:
        self._db = db
        self._escalation = escalation
        self._once = ApplyOnce(db)
        self._preview = preview
        self._pages = pages
        self._budgets = budgets

    async def UpdateDigest(self, request: pb.UpdateDigestRequest, context: Any) -> pb.UpdateDigestResponse:
        """See the contract."""
        given = request.digest
        current_call().require_own(given.user, _SCOPE)
        choice = _choice(given)
        await digests.require_user(self._db, self._escalation, tenant(), choice)

        async def update(tx: Tx) -> pb.UpdateDigestResponse:
            before, after = await digests.choose(tx, choice, given.etag, self._budgets)
            if before is not None:
                note_before(digest_to(before))
            return pb.UpdateDigestResponse(digest=digest_to(after))

        return await self._once("UpdateDigest", request, pb.UpdateDigestResponse, update)

    async def ListDigests(self, request: pb.ListDigestsRequest, context: Any) -> pb.ListDigestsResponse:
        """See the contract."""

        async def read(after: Any, limit: int) -> Sequence[Digest]:
            async with self._db.transaction(tenant()) as tx:
                return await store.page(tx, request.user, after, limit)

        def place(row: Digest) -> tuple[str, str]:
            return row.user_id, str(row.frequency)

        digests, token = await listed(self._pages, request, ("", ""), read, digest_to, place)
        return pb.ListDigestsResponse(digests=digests, next_page_token=token)

    async def DeleteDigest(self, request: pb.DeleteDigestRequest, context: Any) -> pb.DeleteDigestResponse:
        """See the contract."""
        current_call().require_own(request.user, _SCOPE)

        async def delete(tx: Tx) -> pb.DeleteDigestResponse:
            note_before(digest_to(await digests.end(tx, request.user, FREQUENCIES[request.frequency])))
            return pb.DeleteDigestResponse()

        return await self._once("DeleteDigest", request, pb.DeleteDigestResponse, delete)

    async def PreviewDigest(self, request: pb.PreviewDigestRequest, context: Any) -> pb.PreviewDigestResponse:
        """See the contract."""
        shown = await self._preview(tenant(), request.user, FREQUENCIES[request.frequency])
        content, words = shown.content, digest_words_of(shown.language)
        return pb.PreviewDigestResponse(
            subject=digest_content.subject(content, words),
            text=digest_content.text(content, words),
            html=digest_html.html(content, words),
            brief=digest_content.brief(content, words),
            worth_telling=content.worth_telling,
            content=shown.figures,
        )


def digest_to(row: Digest) -> pb.Digest:
    """A digest for the contract."""
    return pb.Digest(
        user=row.user_id,
        frequency=TO_FREQUENCIES.get(row.frequency, digest_pb2.DIGEST_FREQUENCY_UNSPECIFIED),
        hour=row.hour,
        weekday=row.weekday,  # type: ignore[arg-type]  # the number is the enum's own
        time_zone=row.time_zone,
        contact_method=f"contactMethods/{row.contact_method}" if row.contact_method is not None else "",
        when_empty=_TO_WHEN_EMPTY.get(row.when_empty, pb.WHEN_EMPTY_UNSPECIFIED),
        next_time=timestamp(row.next_time),
        latest_time=timestamp(row.latest_time),
        latest_result=row.latest_result,
        latest_page=f"pages/{row.latest_page}" if row.latest_page is not None else "",
        etag=etag(row.version),
    )


def _choice(given: pb.Digest) -> Choice:
    """What the caller wants; the annotations hold. Raises INVALID_FIELD for what they cannot say."""
    frequency = FREQUENCIES[given.frequency]
    if frequency is Frequency.WEEKLY and not given.weekday:
        raise invalid("digest.weekday", "is required for a weekly digest")
    if frequency is Frequency.DAILY and given.weekday:
        raise invalid("digest.weekday", "must not be set for a daily digest")
    method = None
    if given.contact_method:
        method = parse_uuid_name(given.contact_method, "contactMethods", field="digest.contact_method")
    return Choice(
        user_id=given.user,
        frequency=frequency,
        hour=given.hour,
        weekday=int(given.weekday),
        time_zone=given.time_zone,
        contact_method=method,
        when_empty=_WHEN_EMPTY[given.when_empty],
    )
