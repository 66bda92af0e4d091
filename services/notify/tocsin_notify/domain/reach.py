"""Why a user cannot be reached, in words a responder understands."""

from collections.abc import Sequence

from tocsin_notify.domain.page import Channel, Method


def why_unreachable(methods: Sequence[Method], channel: Channel | None = None) -> str:
    """Empty when a page can be sent: through `channel` if given, else through any method."""
    if channel is not None:
        methods = [method for method in methods if method.channel is channel]
    of_channel = f" of channel {channel}" if channel is not None else ""
    if any(method.usable for method in methods):
        return ""
    if any(method.user_disabled for method in methods):
        return "the user is disabled"
    if not methods:
        return f"no verified contact method{of_channel}"
    if any(method.verified for method in methods):
        return f"no enabled contact method{of_channel}: every verified one is disabled"
    return f"no verified contact method{of_channel}: none of {len(methods)} is verified"
