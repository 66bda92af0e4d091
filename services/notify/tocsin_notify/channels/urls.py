"""Checks URLs of webhooks, when contact methods are made and when pages are sent."""

from tocsin_kit import urls
from yarl import URL

from tocsin_notify.channels.base import BadAddress


class BadUrl(BadAddress):
    """The URL cannot be called."""


def read_url(text: str, *, allow_private: bool) -> URL:
    """The URL in the form in which it is called. Raises BadUrl; unless `allow_private`, also for addresses that are
    visibly private."""
    try:
        return urls.read_url(text, allow_private=allow_private)
    except urls.BadUrl as error:
        raise BadUrl(str(error)) from None


def check_url(address: str, allow_private: bool) -> str:
    """For channels whose address is a URL, which stays as it was written. Raises BadUrl."""
    read_url(address, allow_private=allow_private)
    return address
