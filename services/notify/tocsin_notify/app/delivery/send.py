"""One provider call: the text of the message, its time limit, and its outcome."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from time import monotonic
from typing import Final

from tocsin_kit.logging import get_logger
from tocsin_kit.time_limit import TimeLimit

from tocsin_notify.app.delivery.permits import Permit
from tocsin_notify.channels.base import Delivery, NotStarted
from tocsin_notify.channels.registry import Registry
from tocsin_notify.domain.attempt import Outcome, Retryable, Sent

_log = get_logger(__name__)

_BEYOND: Final = 2.0
"""Seconds that a call may take beyond the limit of its channel: a channel that ends the call by itself can give a
better reason."""
_HUNG: Final = 0.9
"""A call that failed after this part of its channel's time counts as one that got no answer."""
_STOPPED: Final = Retryable("the service stopped before the provider answered")


@dataclass(frozen=True, slots=True)
class Ended:
    """The result of a call."""

    outcome: Outcome
    began: float
    """By `time.monotonic`."""
    seconds: float
    """How long it took."""
    faults: str
    """Why the template was not used, in words."""
    hung: bool
    """It failed without an answer within its time."""
    counts: bool
    """Whether it says anything about the provider: it was neither cut off by a stop nor refused before it began."""


class Send:
    """One object per process. It raises nothing: an error of a channel is an outcome, and so is a stop of this process."""

    def __init__(
        self,
        channels: Registry,
        link: Callable[[Delivery], str],
        word: Callable[[Delivery], Awaitable[Delivery]],
        *,
        timeout: float,
    ) -> None:
        """`link` gives the URL by which the person answers, if there is one. `word` adds the texts of the tenant's
        template. `timeout`: seconds that channels allow; the lease is longer than that and the extra time together.
        """
        self._channels = channels
        self._link = link
        self._word = word
        self._most = timeout + _BEYOND
        self._limit = TimeLimit(self._most)
        self._hung_after = timeout * _HUNG

    async def __call__(self, delivery: Delivery, permit: Permit) -> Ended:
        """Returns when the call has ended, and gives the permit back."""
        began, faults = monotonic(), ""
        try:
            link = self._link(delivery)
            worded = await self._word(replace(delivery, link=link) if link else delivery)
            faults = "; ".join(worded.faults)
            outcome = await self._limit.wait(self._channels[delivery.target.channel].send(worded, permit))
        except TimeoutError:
            outcome = Retryable(f"no answer within {self._most:g} s")
        except asyncio.CancelledError:
            outcome = _STOPPED
        except NotStarted as error:
            outcome = Retryable(str(error))
        except Exception as error:
            _log.exception("channel_defect", notification=str(delivery.notification))
            outcome = Retryable(f"internal error in the channel: {type(error).__name__}", recipient=True)
        permit.settle()
        if permit.refused and not isinstance(outcome, Sent):  # however the channel's libraries wrapped the error
            outcome = Retryable(permit.refused)
        seconds = monotonic() - began
        return Ended(
            outcome,
            began,
            seconds,
            faults,
            hung=seconds >= self._hung_after and not isinstance(outcome, Sent),
            counts=outcome is not _STOPPED and not permit.refused,
        )
