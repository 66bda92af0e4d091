"""The public addresses of this service that are handed to providers."""

from typing import Final
from urllib.parse import urlencode

from tocsin_notify.channels.base import Delivery

TWILIO_STATUS: Final = "/v1/twilio/status"
TWILIO_CALL: Final = "/v1/twilio/call"
TWILIO_KEY: Final = "/v1/twilio/key"


class CallbackUrls:
    """Under one public base URL; without one nothing is asked to call back."""

    def __init__(self, public_url: str) -> None:
        """`public_url`: without a slash at its end; empty when nobody outside can reach this service."""
        self.public_url: Final = public_url

    def twilio_status(self, delivery: Delivery) -> str:
        """Where Twilio tells what became of this attempt; empty when nobody can."""
        return self._named(TWILIO_STATUS, delivery)

    def twilio_call(self, delivery: Delivery) -> str:
        """Where it tells what became of this attempt's call."""
        return self._named(TWILIO_CALL, delivery)

    def twilio_key(self, delivery: Delivery) -> str:
        """Where it tells which key was pressed, and is told what to say next."""
        return self._named(TWILIO_KEY, delivery)

    def _named(self, path: str, delivery: Delivery) -> str:
        if not self.public_url:
            return ""
        names = {"org": delivery.org_id, "notification": delivery.notification, "attempt": delivery.attempt}
        return f"{self.public_url}{path}?{urlencode(names)}"
