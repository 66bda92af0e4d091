"""What follows a message once its incident was answered: ringing ends, and buttons give way to what happened."""

import asyncio
import random
from collections.abc import Mapping
from typing import Final

from tocsin.notify.v1.notification_pb2 import NotificationJob
from tocsin_kit.db.pool import Database, Tx
from tocsin_kit.logging import get_logger

from tocsin_notify.channels.base import Always, ChannelSender, Follower, Sequel, Target
from tocsin_notify.domain.attempt import Outcome, Permanent, Retryable, Sent
from tocsin_notify.domain.page import Channel, Kind
from tocsin_notify.store import sequels
from tocsin_notify.store.cipher import Cipher, SecretLost
from tocsin_notify.store.sequels import Followed, Noted

_log = get_logger(__name__)

_MOST: Final = 50
_TRIES: Final = 8
_UNNAMED: Final = 3
"""Looks for a message's name at its provider: somebody may have answered it before the provider's answer was noted."""
_LEASE_MARGIN: Final = 10.0
_LONGEST_WAIT: Final = 300.0


class Sequels:
    """One round of it. Any number of replicas may run it."""

    def __init__(
        self, db: Database, channels: Mapping[Channel, ChannelSender], cipher: Cipher, *, timeout: float
    ) -> None:
        """`timeout`: seconds for one call."""
        self._db = db
        self._cipher = cipher
        self._timeout = timeout
        self._followers = {name: sender for name, sender in channels.items() if isinstance(sender, Follower)}

    async def __call__(self) -> None:
        """Tell each provider once for each message. Raises DATABASE_UNAVAILABLE."""
        while True:
            rows = await self._db.run(None, self._claim)
            if not rows:
                break
            outcomes = await asyncio.gather(*map(self._follow, rows))
            noted = [self._judge(row, outcome) for row, outcome in zip(rows, outcomes, strict=True)]
            async with self._db.system() as tx:
                await sequels.note(tx, noted)
            if len(rows) < _MOST:
                break
        async with self._db.system() as tx:
            await sequels.close_fences(tx, self._followers)

    async def _claim(self, tx: Tx) -> list[Followed]:
        return await sequels.claim(tx, self._followers, _MOST, self._timeout + _LEASE_MARGIN)

    async def _follow(self, row: Followed) -> Outcome:
        if row.gone or (not row.provider_id and row.follow_tries >= _UNNAMED):
            return Sent()  # there is no receiver, or no message, to update
        if not row.provider_id:
            return Retryable("the provider's name for the message is not noted, or not yet")
        try:
            secret = b"" if row.secret is None else self._cipher.open(row.org_id, row.contact_method, row.secret)
        except SecretLost as error:
            return Permanent(str(error))
        sequel = Sequel(
            Target(Channel(row.channel), row.address, secret, row.key_id),
            Kind(row.type),
            NotificationJob.FromString(row.job),
            row.provider_id,
            row.reason,
        )
        try:
            async with asyncio.timeout(self._timeout):
                return await self._followers[sequel.target.channel].follow(sequel, Always())
        except TimeoutError:
            return Retryable(f"no answer within {self._timeout:g} s")
        except Exception as error:
            _log.exception("channel_defect", notification=str(row.id))
            return Permanent(f"internal error in the channel: {type(error).__name__}")

    def _judge(self, row: Followed, outcome: Outcome) -> Noted:
        fields = {"org_id": row.org_id, "notification": str(row.id), "channel": row.channel}
        if isinstance(outcome, Retryable) and row.follow_tries < _TRIES:
            wait = min(_LONGEST_WAIT, 2.0**row.follow_tries) * (1.0 + random.random()) / 2
            _log.info("sequel_tried_on", reason=outcome.reason, **fields)
            return Noted(row.org_id, row.id, wait=max(wait, min(outcome.after or 0.0, _LONGEST_WAIT)))
        if not isinstance(outcome, Sent):
            _log.warning("sequel_given_up", reason=outcome.reason, meaning="the message stays as it was", **fields)
        return Noted(row.org_id, row.id, followed=row.upto)
