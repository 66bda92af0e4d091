"""A browser's report that it shows a push: each push has a URL for it, which this service made and signed."""

from collections.abc import Iterable
from typing import Final

from aiohttp import web
from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin_kit.errors import TocsinError

from tocsin_notify.app.delivery.receipts import Receipts
from tocsin_notify.channels.callbacks import ARRIVED, RECEIPT, CallbackUrls
from tocsin_notify.domain.evidence import Evidence, Receipt
from tocsin_notify.http.attempts import attempt_of

_CODE: Final = "shown"


class PushReceipts:
    """The route that service workers call."""

    def __init__(self, callbacks: CallbackUrls, receipts: Receipts) -> None:
        self._callbacks = callbacks
        self._receipts = receipts

    def routes(self) -> Iterable[web.AbstractRouteDef]:
        """To be added to the HTTP server."""
        return (web.post(RECEIPT, self.arrived),)

    async def arrived(self, request: web.Request) -> web.Response:
        """The message is on the screen. 404: one that is not known here (any more). What the body says is not read."""
        names = self._callbacks.read_signed(request.query)
        if names is None or ARRIVED not in names:
            raise TocsinError(ErrorReason.ERROR_REASON_CREDENTIAL_INVALID, "this service has not made this URL")
        known = await self._receipts.take(attempt_of(names), Receipt(Evidence.DELIVERED, "", _CODE))
        return web.Response(status=204 if known else 404)
