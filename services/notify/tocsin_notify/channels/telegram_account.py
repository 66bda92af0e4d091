"""The operator's bot at Telegram."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TelegramAccount:
    """An empty `token`: nothing is sent by Telegram. Without `secrets` nothing is taken from it, and messages have no buttons."""

    token: str
    secrets: tuple[str, ...] = ()
    """Secret tokens of the webhook; each is taken, so that they can be rotated."""
    base_url: str = "https://api.telegram.org"

    def __repr__(self) -> str:
        return f"TelegramAccount({self.base_url})"
