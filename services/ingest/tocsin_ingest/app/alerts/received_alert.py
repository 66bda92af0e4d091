"""An alert that is being read: only the parts of it that are needed are parsed, and each once."""

from typing import Any

from tocsin.ingest.v1.alert_service_pb2 import SendAlertRequest

from tocsin_ingest.app.alerts.alert_cache import CachedCore, SenderCache, cache_key
from tocsin_ingest.app.alerts.alert_parts import core_of, words_of
from tocsin_ingest.app.alerts.route_alert import NOTHING_STATED, Stated


class ReceivedAlert:
    """An alert as it was received: a serialized SendAlertRequest, and what its sender stated in addition."""

    __slots__ = ("_known_core", "_request", "_words", "core", "data", "stated")

    def __init__(self, data: bytes, stated: Stated = NOTHING_STATED, request: SendAlertRequest | None = None) -> None:
        """`request`: the same, if it is parsed already. Raises DecodeError."""
        self.data = data
        self.stated = stated
        self._request = request
        self._words: Any = None
        self._known_core: CachedCore | None = None
        self.core = cache_key(core_of(data), stated)
        """The identity of alerts with the same core."""

    def parse(self, cache: SenderCache) -> None:
        """Parses the parts that will be read. Raises DecodeError when any part cannot be parsed."""
        if self.find_core(cache) is None:
            self._request = SendAlertRequest.FromString(self.data)
        else:
            # The other parts are the same as in an earlier alert.
            self._words = words_of(self.data)

    def find_core(self, cache: SenderCache) -> CachedCore | None:
        """What is known of alerts with its core."""
        if self._known_core is None:
            self._known_core = cache.find_core(self.core)
        return self._known_core

    @property
    def request(self) -> SendAlertRequest:
        """The whole. Raises DecodeError."""
        if self._request is None:
            self._request = SendAlertRequest.FromString(self.data)
        return self._request

    @property
    def words(self) -> Any:
        """Its words (`words_of`), parsed anew each time: they may be repaired. Raises DecodeError."""
        words, self._words = self._words, None
        return words_of(self.data) if words is None else words
