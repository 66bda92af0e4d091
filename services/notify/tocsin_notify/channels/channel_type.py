"""Describes a channel to the rest of the service: each channel's file ends with one `ChannelType`, and `registry` lists
it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from tocsin_notify.channels.base import ChannelSender
from tocsin_notify.channels.callbacks import CallbackUrls
from tocsin_notify.domain.page import Channel
from tocsin_notify.domain.template import Part

if TYPE_CHECKING:
    from tocsin_notify.settings import NotifySettings


def as_given(address: str, allow_private: bool) -> str:
    """For channels whose annotations in the contract check everything."""
    return address


@dataclass(frozen=True, slots=True)
class ChannelType:
    """One channel. In `ContactMethod` it is the message that has the name of `channel`.

    `address_field` names the field with the address; `hidden_field` names the field that only this service and the
    provider may know. Each is empty if there is none.
    """

    channel: Channel
    word: str
    """The channel in words of people."""
    open: Callable[["NotifySettings", CallbackUrls], ChannelSender]
    """Makes the one sender of this process."""
    address_field: str = ""
    hidden_field: str = ""
    signs: bool = False
    """Messages are signed: a method without a secret gets one, which only its creator is shown, once."""
    mask: Callable[[str], str] | None = None
    """The address is the credential. It is stored as the secret, and this function returns the part that is stored
    readable and shown."""
    check: Callable[[str, bool], str] = as_given
    """The address in its one form. Raises BadAddress. The second argument: whether private addresses may be called."""
    missing: Callable[["NotifySettings"], str] = lambda _: ""
    """Why no method of this channel can be made here; continues the name of a field. Empty if one can."""
    parts: tuple[Part, ...] = ()
    """The texts of its messages that a template may replace; none where a program reads them."""
    personal: bool = False
    """Messages there are read by the user alone, as far as Tocsin can know: it is no chat and no program."""
    hosts: bool = False
    """Addresses are URLs of unrelated servers: one that hangs must not delay the others."""


def mask_url(address: str) -> str:
    """A URL's host and last four characters."""
    parts = urlsplit(address)
    return f"{parts.scheme.lower()}://{parts.netloc}/…{address[-4:]}"


TITLED: Final = (Part.SUBJECT, Part.CHAT)
"""Of push and chat messages."""
NO_TWILIO: Final = "is not possible here: the operator has set no TWILIO_ACCOUNT_SID"
