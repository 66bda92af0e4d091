"""Commit a batch of one tenant's alerts: one transaction, a handful of statements, an answer for each."""

import time
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple
from uuid import UUID

import asyncpg
from tocsin_kit.db.outbox import OutboxRow
from tocsin_kit.db.pool import Database, Tx
from tocsin_kit.db.requests import StoredAnswer, recall, remember, reused
from tocsin_kit.ids import new_id

from tocsin_ingest.app.alerts.answers import counted, decided, joined
from tocsin_ingest.domain.decision import Decision, Outcome
from tocsin_ingest.domain.message import Message
from tocsin_ingest.domain.snapshot import Applied, Snapshot
from tocsin_ingest.metrics import IngestMetrics
from tocsin_ingest.store.alerts.repeats import NotWhole, Repeat
from tocsin_ingest.store.alerts.repeats import count as count_repeats
from tocsin_ingest.store.alerts.snapshot import fill, is_locked, lock_first, lock_integrations
from tocsin_ingest.store.alerts.writing import NONE_FROM_MEMORY, Written, write

METHOD: Final = "tocsin.ingest.v1.AlertService/SendAlert"
"""An alert is one request however it came: alone, in a batch or on a stream."""


class RepeatEffect(NamedTuple):
    """The effect of a repeat of an alert, as long as the alert fires. `answer`: without the count, once there was a repeat."""

    alert_id: UUID
    incident_id: UUID
    answer: bytes = b""


@dataclass(slots=True, eq=False)
class Entry:
    """One alert of a tenant on its way into the database. `request_id` is empty when the caller gave none.

    An alert that is recognised is the same entry object each time, and may be in a batch many times. `like`: the entry of the
    first alert with the same core; None: this one is the first. Such alerts are decided together.
    """

    org_id: str
    message: Message
    request_id: str = ""
    body_hash: bytes = b""
    repeat_effect: RepeatEffect | None = None
    """The latest known effect, of this alert or of one like it. It may be outdated: the database decides."""
    like: "Entry | None" = None


Answer = bytes | Exception
"""A serialized `SendAlertResponse`."""


class CommitBatch:
    """The work of a group commit: entries of one tenant. `nudge` is called with it after a commit that left an event to deliver
    at once; `takes` and `hand_over` are those of the relay."""

    def __init__(
        self,
        database: Database,
        metrics: IngestMetrics,
        nudge: Callable[[str], None],
        takes: Callable[[str, int], bool] = NONE_FROM_MEMORY,
        hand_over: Callable[[Sequence[OutboxRow]], None] = lambda rows: None,
    ) -> None:
        self._database = database
        self._metrics = metrics
        self._nudge = nudge
        self._takes = takes
        self._hand_over = hand_over

    async def __call__(self, entries: Sequence[Entry]) -> Sequence[Answer]:
        """One answer per entry. Raises when nothing was committed. Errors of the database about values (DataError,
        IntegrityConstraintViolationError, ValueError) are caused by one entry, which the group commit finds."""
        try:
            return await self._commit(entries)
        except NotWhole:
            # The delivery of an incident's event began at this moment; a batch that reads first makes the next event.
            for entry in entries:
                (entry.like or entry).repeat_effect = None
            return await self._commit(entries)
        except asyncpg.UniqueViolationError:
            # Two replicas received one request_id through two integrations at once. The other has committed by now, so that its
            # answer is found this time.
            return await self._commit(entries)

    async def _commit(self, entries: Sequence[Entry]) -> Sequence[Answer]:
        began = time.perf_counter()
        org_id, integrations = entries[0].org_id, {entry.message.integration_id for entry in set(entries)}
        # Mostly there is one integration, and no other transaction holds it: locking it then costs no round trip of its own. Of
        # several, one would be held while another one is waited for, out of their order.
        first = lock_first(org_id, *integrations) if len(integrations) == 1 else ""
        batch = await self._database.run(
            org_id, lambda tx: _Batch(entries, integrations, self._takes).apply(tx), first=first
        )
        self._metrics.commit_seconds.observe(time.perf_counter() - began)
        self._metrics.batch_size.observe(len(entries))
        if batch.repeated:
            self._metrics.alerts.labels(Outcome.DEDUPLICATED.name.lower()).inc(batch.repeated)
        counts = Counter(
            (entry.message.seen is None, decision.outcome)
            for entry, (decision, _) in zip(batch.fresh, batch.applied, strict=True)
        )
        for (sent, outcome), count in counts.items():
            of = self._metrics.alerts if sent else self._metrics.looked_again
            of.labels(outcome.name.lower()).inc(count)
        batch.remember_repeat_effects()
        self._hand_over(batch.written.from_memory)
        if batch.written.urgent:
            self._nudge(org_id)
        return batch.answers()


async def decide_and_write(
    tx: Tx,
    messages: Sequence[Message],
    kinds: Sequence[Hashable] | None = None,
    takes: Callable[[str, int], bool] = NONE_FROM_MEMORY,
) -> tuple[Sequence[Applied], Written]:
    """Decides a tenant's messages, whose integrations must be locked. `kinds`: as of `Snapshot.apply_with_repeats`; `takes`: as of
    `write`."""
    if kinds is None:
        kinds = [id(each) for each in messages]
    snapshot = Snapshot(new_id)
    # One of each kind, in order, so that two runs do the same.
    await fill(tx, snapshot, list(dict(zip(kinds, messages, strict=True)).values()))
    applied = snapshot.apply_with_repeats(messages, kinds)
    return applied, await write(tx, snapshot, takes)


class _Batch:
    """One attempt at one transaction."""

    def __init__(
        self,
        entries: Sequence[Entry],
        integrations: Collection[str],
        takes: Callable[[str, int], bool] = NONE_FROM_MEMORY,
    ) -> None:
        self._integrations = integrations
        self._takes = takes
        self._all = entries
        self._kinds = _kinds(entries)
        self._entries = entries
        self._counted: dict[Entry, int] = {}
        self._known: dict[str, StoredAnswer] = {}
        self.fresh: Sequence[Entry] = ()
        self.applied: Sequence[Applied] = ()
        self.written = Written(False, [])
        self._made_answers: list[bytes] | None = None

    async def apply(self, tx: Tx) -> "_Batch":
        """Everything between BEGIN and COMMIT."""
        different = Counter(self._kinds)
        if not is_locked(tx):
            await lock_integrations(tx, self._integrations)
        await self._count(tx, different)
        wanted = {entry.request_id for entry in different if entry.request_id}
        self.fresh = await self._without_repeated_requests(tx, wanted) if wanted else self._entries
        if self.fresh:
            messages = [entry.message for entry in self.fresh]
            self.applied, self.written = await decide_and_write(tx, messages, _kinds(self.fresh), self._takes)
            if wanted:
                await self._remember(tx)
        return self

    @property
    def repeated(self) -> int:
        """How many alerts were repeats that were counted without a decision."""
        return len(self._all) - len(self._entries)

    async def _count(self, tx: Tx, different: Counter[Entry]) -> None:
        """Counts repeats of firing alerts, and leaves the others.

        They are handled before the others: effects on alerts of other keys, or on a shared incident, add up in any order.
        """
        candidates = [entry for entry in different if entry.repeat_effect is not None]
        if not candidates:
            return
        of_key = Counter([entry.message.key for entry in different])
        if len(of_key) < len(different):
            # Messages of one key are decided in their order.
            candidates = [entry for entry in candidates if of_key[entry.message.key] == 1]
        newest = dict(zip(self._kinds, self._all, strict=True))
        repeats = [
            Repeat(
                entry.repeat_effect.alert_id, entry.repeat_effect.incident_id, different[entry], newest[entry].message
            )
            for entry in candidates
            if entry.repeat_effect is not None
        ]
        counts = await count_repeats(tx, repeats) if repeats else {}
        if not counts:
            return
        for entry, repeat in zip(candidates, repeats, strict=True):
            count = counts.get(repeat.alert_id)
            if count is not None:
                self._counted[entry] = count - different.pop(entry)
        left = zip(self._all, self._kinds, strict=True)
        self._entries = [entry for entry, kind in left if kind not in self._counted] if different else ()

    async def _without_repeated_requests(self, tx: Tx, wanted: set[str]) -> list[Entry]:
        self._known = await recall(tx, METHOD, wanted)
        taken = set(self._known)
        fresh = []
        for entry in self._entries:
            if not entry.request_id or entry.request_id not in taken:
                taken.add(entry.request_id)
                fresh.append(entry)
        return fresh

    async def _remember(self, tx: Tx) -> None:
        made = {
            entry.request_id: StoredAnswer(entry.body_hash, answer)
            for entry, answer in zip(self.fresh, self._made(), strict=True)
            if entry.request_id
        }
        if made:
            await remember(tx, METHOD, made)
            self._known |= made

    def remember_repeat_effects(self) -> None:
        """Store the effect of repeats of these alerts. After the commit."""
        for entry, (decision, more) in zip(self.fresh, self.applied, strict=True):
            if not more:
                (entry.like or entry).repeat_effect = _repeat_effect(entry.message, decision)

    def answers(self) -> list[Answer]:
        """One per entry, in their order."""
        if not self._counted:
            return self._decided()
        others = iter(self._decided())
        counts = self._counted
        answers: list[Answer] = []
        for entry in self._kinds:
            count, effect = counts.get(entry), entry.repeat_effect
            if count is None or effect is None:
                answers.append(next(others))
                continue
            if not effect.answer:
                alert_id, incident_id, _ = effect
                answer = joined(Outcome.DEDUPLICATED, entry.message.dedup_key, alert_id, incident_id)
                effect = RepeatEffect(alert_id, incident_id, answer)
                entry.repeat_effect = effect
            counts[entry] = count = count + 1
            answers.append(counted(effect.answer, count))
        return answers

    def _decided(self) -> list[Answer]:
        made = self._made()
        if self.fresh is self._entries:
            return [*made]
        # Those without a request id are in `fresh` as often as they came, and in the same order.
        others = iter([answer for entry, answer in zip(self.fresh, made, strict=True) if not entry.request_id])
        return [self._repeated(entry) if entry.request_id else next(others) for entry in self._entries]

    def _made(self) -> list[bytes]:
        """One for each fresh entry. Of a repeated one only the count differs from the answer before it."""
        if self._made_answers is None:
            self._made_answers = self._write()
        return self._made_answers

    def _write(self) -> list[bytes]:
        answers: list[bytes] = []
        written: dict[Entry, bytes] = {}
        for entry, (decision, more) in zip(_kinds(self.fresh), self.applied, strict=True):
            if more:
                answer = written[entry]
            else:
                answer = written[entry] = decided(entry.message.dedup_key, decision)
            alert = decision.alert
            answers.append(answer if alert is None else counted(answer, alert.count + more))
        return answers

    def _repeated(self, entry: Entry) -> Answer:
        stored = self._known[entry.request_id]
        if stored.body_hash != entry.body_hash:
            return reused()
        return stored.response


def _kinds(entries: Sequence[Entry]) -> list[Entry]:
    """Equal for entries that are decided together."""
    return [entry.like or entry for entry in entries]


def _repeat_effect(message: Message, decision: Decision) -> RepeatEffect | None:
    """The effect of its repeats: a higher count, if it was a trigger that joined its own alert.

    A trigger with an end of its own moves that end as well. All other effects of a trigger on a firing alert have happened
    already.
    """
    alert = decision.alert
    if decision.outcome is not Outcome.DEDUPLICATED or message.expiry is not None or alert is None:
        return None
    return None if alert.incident_id is None else RepeatEffect(alert.id, alert.incident_id)
