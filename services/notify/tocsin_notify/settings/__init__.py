"""What notify reads from the environment, beside what every service reads: a class for each subject."""

from typing import ClassVar

from pydantic import model_validator
from tocsin_kit.settings import service_settings

from tocsin_notify.former_names import FORMER_NAMES
from tocsin_notify.settings.answers import AnswerSettings
from tocsin_notify.settings.board import BoardSettings
from tocsin_notify.settings.delivery import DeliverySettings
from tocsin_notify.settings.providers import ProviderSettings
from tocsin_notify.settings.subscriptions import SubscriptionSettings


# The page of all variables lists the last class first.
class NotifySettings(ProviderSettings, AnswerSettings, BoardSettings, SubscriptionSettings, DeliverySettings):
    """`NOTIFY_…` variables, and those of providers. The name of a duration or a rate ends in its unit."""

    model_config = service_settings("NOTIFY_")
    renamed: ClassVar = FORMER_NAMES

    @model_validator(mode="after")
    def _replies_are_consistent(self) -> "NotifySettings":
        if self.twilio_replies and not (self.public_url and self.twilio_from.startswith(("+", "MG"))):
            raise ValueError("TWILIO_REPLIES needs NOTIFY_PUBLIC_URL, and a TWILIO_FROM that can be replied to")
        return self
