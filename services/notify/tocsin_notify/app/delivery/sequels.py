"""Updates of messages after their incident was answered: a phone stops ringing, and buttons are replaced by what
happened.

Each channel has its own slots, and each message its own task: a provider or a message that hangs delays no other. A
claimed update that was not sent comes due again when its lease ends, also when the process has died.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from tocsin_kit.batches import Batches
from tocsin_kit.db.pool import Database, Tx
from tocsin_kit.errors import TocsinError
from tocsin_kit.logging import get_logger

from tocsin_notify.app.delivery.people_first import PeopleFirst
from tocsin_notify.app.pages.stored_jobs import job_of
from tocsin_notify.channels.base import Always, ChannelSender, Follower, Sequel, Target
from tocsin_notify.domain.attempt import Outcome, Permanent, Retryable, Sent
from tocsin_notify.domain.page import Channel, Kind
from tocsin_notify.domain.template import LANGUAGES
from tocsin_notify.store.cipher import Cipher, SecretLost
from tocsin_notify.store.delivery import sequels
from tocsin_notify.store.delivery.gate import incident_key, shut
from tocsin_notify.store.delivery.sequels import Followed, Noted

_log = get_logger(__name__)

SLOTS: Final = 20
"""Calls at once in each channel."""
_ORGS: Final = 500
_CLOSED_AT_ONCE: Final = 200
"""Each fence that closes holds an advisory lock; PostgreSQL's shared lock table is finite."""
_ROUNDS: Final = 20
_TRIES: Final = 8
_RINGING_TRIES: Final = 200
"""With waits of a minute at most, these last three hours after the page: by then a phone has stopped by itself."""
_UNNAMED: Final = 3
"""Checks for a message's name at its provider: a person may have answered before the provider's answer was noted."""
_LEASE_MARGIN: Final = 10.0
_LONGEST_WAIT: Final = 300.0
_LONGEST_WAIT_OF_RINGING: Final = 60.0


class Sequels:
    """A round claims as many as there are slots for, and does not wait for their calls. Any number of replicas may run
    it."""

    def __init__(
        self,
        db: Database,
        channels: Mapping[Channel, ChannelSender],
        cipher: Cipher,
        *,
        timeout: float,
        first: PeopleFirst | None = None,
        more: Callable[[], None] = lambda: None,
        slots: int = SLOTS,
    ) -> None:
        """`timeout`: seconds for one call. `first`: what the updates give way to. `more`: asks for another round at once,
        when a full channel has a free slot again."""
        self._db = db
        self._cipher = cipher
        self._timeout = timeout
        self._first = first or PeopleFirst()
        self._more = more
        self._slots = slots
        self._followers = {name: sender for name, sender in channels.items() if isinstance(sender, Follower)}
        self._taken: Counter[Channel] = Counter()
        self._running: set[asyncio.Task[None]] = set()
        self._after = ""
        self._noting: Batches[Noted, None] = Batches(self._note, most=200)

    async def __call__(self) -> None:
        """One round. Raises DATABASE_UNAVAILABLE."""
        await self._first.give_way()
        for row in await self._db.run(None, self._claim):
            self._taken[Channel(row.channel)] += 1
            task = asyncio.get_running_loop().create_task(self._tell(row))
            self._running.add(task)
            task.add_done_callback(self._running.discard)
        for _ in range(_ROUNDS):
            await self._first.give_way()
            if await self._db.run(None, self._close) < _CLOSED_AT_ONCE:
                break

    async def drain(self, grace: float) -> None:
        """Let calls end for `grace` seconds. Another process sends the rest, once their leases have ended."""
        if self._running:
            _, late = await asyncio.wait(self._running, timeout=grace)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        await self._noting.drain()

    async def _claim(self, tx: Tx) -> list[Followed]:
        rooms = {str(name): room for name in self._followers if (room := self._slots - self._taken[name]) > 0}
        if not rooms:
            return []
        named, self._after = await sequels.find(tx, rooms, after_org=self._after, orgs=_ORGS)
        return await sequels.claim(tx, named, self._timeout + _LEASE_MARGIN) if named else []

    async def _close(self, tx: Tx) -> int:
        """Two statements: the second sees what a claim commits between them, since the gate is closed by then."""
        done = await sequels.finished(tx, self._followers, _CLOSED_AT_ONCE)
        if not done:
            return 0
        keys = {incident_key(*each): each for each in done}
        closed = [keys[key] for key in await shut(tx, keys)]
        return await sequels.close_fences(tx, self._followers, closed) if closed else 0

    async def _tell(self, row: Followed) -> None:
        channel = Channel(row.channel)
        full = self._taken[channel] >= self._slots
        try:
            outcome = await self._follow(row)
            await self._noting.submit(self._judge(row, outcome))
        except TocsinError as error:
            # A repeated update does no harm: it comes due again when its lease ends.
            _log.warning("sequel_not_noted", notification=str(row.id), error=error.message)
        except Exception:
            _log.exception("sequel_failed", notification=str(row.id))
        finally:
            self._taken[channel] -= 1
            if full:
                self._more()

    async def _note(self, noted: Sequence[Noted]) -> list[None]:
        await self._first.give_way()
        async with self._db.system() as tx:
            await sequels.note(tx, noted)
        return [None] * len(noted)

    async def _follow(self, row: Followed) -> Outcome:
        if row.gone or (not row.provider_id and row.follow_tries >= _UNNAMED):
            return Sent()  # there is no receiver, or no message, to update
        if not row.provider_id:
            return Retryable("the provider's name for the message is not noted, or not yet")
        try:
            secret = b"" if row.secret is None else self._cipher.open(row.org_id, row.contact_method, row.secret)
        except SecretLost as error:
            return Permanent(str(error))
        kind = Kind(row.type)
        target = Target(Channel(row.channel), row.address, secret, row.key_id)
        language = row.language or LANGUAGES[0]
        sequel = Sequel(target, kind, job_of(row, kind, row.job), row.provider_id, row.reason, language)
        try:
            async with asyncio.timeout(self._timeout):
                return await self._followers[target.channel].follow(sequel, Always())
        except TimeoutError:
            return Retryable(f"no answer within {self._timeout:g} s")
        except Exception as error:
            _log.exception("channel_defect", notification=str(row.id))
            return Permanent(f"internal error in the channel: {type(error).__name__}")

    def _judge(self, row: Followed, outcome: Outcome) -> Noted:
        fields = {"org_id": row.org_id, "notification": str(row.id), "channel": row.channel}
        rings = self._followers[Channel(row.channel)].rings
        tries, longest = (_RINGING_TRIES, _LONGEST_WAIT_OF_RINGING) if rings else (_TRIES, _LONGEST_WAIT)
        if isinstance(outcome, Retryable) and row.follow_tries < tries:
            wait = min(longest, 2.0 ** min(row.follow_tries, 60)) * (1.0 + random.random()) / 2
            _log.info("sequel_tried_on", reason=outcome.reason, **fields)
            return Noted(row.org_id, row.id, wait=max(wait, min(outcome.after or 0.0, longest)))
        if not isinstance(outcome, Sent):
            _log.warning("sequel_given_up", reason=outcome.reason, meaning="the message stays as it was", **fields)
        return Noted(row.org_id, row.id, followed=row.upto)
