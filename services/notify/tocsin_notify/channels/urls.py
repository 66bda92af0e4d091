"""URLs of webhooks: contact methods are made with this, and pages are sent with it."""

from tocsin_kit import urls
from yarl import URL

from tocsin_notify.channels.base import BadAddress


class BadUrl(BadAddress):
    """Nothing can be called by this URL."""


def read_url(text: str, *, allow_private: bool) -> URL:
    """The URL as it is called. Raises BadUrl; unless `allow_private`, also for addresses that are visibly private."""
    try:
        return urls.read_url(text, allow_private=allow_private)
    except urls.BadUrl as error:
        raise BadUrl(str(error)) from None


def check_url(address: str, allow_private: bool) -> str:
    """For channels whose address is a URL, which stays as it was written. Raises BadUrl."""
    read_url(address, allow_private=allow_private)
    return address
