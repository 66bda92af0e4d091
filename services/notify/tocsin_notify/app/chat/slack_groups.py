"""Slack user groups that follow a schedule or a policy, and the loop that keeps their members up to date.

The row records the members that Slack was sent. A replica that checks a group postpones the group's next check, asks
escalation who is on call, updates Slack outside of any transaction, and writes the result. If another replica checked
the group meanwhile, the group is checked again: the other replica's update may have reached Slack last. Escalation is
asked at each check, so a lost event changes nothing.
"""

import asyncio
import random
from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import groupby
from typing import Final

from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin_kit.budgets import Budgets
from tocsin_kit.db.pool import Database, Tx
from tocsin_kit.db.quotas import require_room
from tocsin_kit.errors import TocsinError, invalid, not_found
from tocsin_kit.logging import get_logger
from tocsin_kit.rpc.masks import require_etag

from tocsin_notify.channels.slack import SlackChannel
from tocsin_notify.clients.escalation import Escalation
from tocsin_notify.domain.attempt import Outcome, Retryable, Sent
from tocsin_notify.domain.slack_group import Disable, Leave, SetMembers, Wish, pause_after, wish_for
from tocsin_notify.metrics import NotifyMetrics
from tocsin_notify.store.chat import slack_groups
from tocsin_notify.store.chat.slack_groups import Settled, SlackGroup
from tocsin_notify.store.contacts import contacts

_log = get_logger(__name__)

_LOOK_SECONDS: Final = 15.0
_ANEW: Final = timedelta(hours=1)
"""The members are set again after this time: a person may have changed them in Slack."""
_MOST_PER_ROUND: Final = 20
"""Slack allows about twenty of these calls a minute (Tier 2), and answers with an error beyond that."""
_LEASE: Final = 90.0
"""Longer than one question to escalation and three calls to Slack take."""


class ChosenGroups:
    """Use cases on the groups that tenants chose; each runs in the caller's transaction."""

    def __init__(self, allowed: frozenset[tuple[str, str]], missing: str, budgets: Budgets) -> None:
        """`allowed`: pairs of tenant and group, `*` for any. `missing`: why Slack cannot be called here; empty if it
        can."""
        self._allowed = allowed
        self._missing = missing
        self._budgets = budgets

    def require_allowed(self, org_id: str, group: str) -> None:
        """Raises INVALID_FIELD."""
        if self._missing:
            raise invalid("slack_group.group", self._missing)
        if self._allowed.isdisjoint({(tenant, each) for tenant in (org_id, "*") for each in (group, "*")}):
            raise invalid("slack_group.group", "must be one that the operator allows this tenant (SLACK_USER_GROUPS)")

    async def choose(
        self, tx: Tx, group: str, schedule: str, disable_when_nobody: bool, etag: str
    ) -> tuple[SlackGroup | None, SlackGroup]:
        """The group before the change, and after it. Raises ALREADY_EXISTS, ETAG_MISMATCH, LIMIT_REACHED."""
        before = await slack_groups.read(tx, group)
        require_etag(etag, before.version if before is not None else 0)
        if before is None:
            await require_room(tx, "slack_groups", self._budgets)
        put = slack_groups.insert if before is None else slack_groups.change
        after = await put(tx, group, schedule, disable_when_nobody)
        if after is None:
            raise TocsinError(
                ErrorReason.ERROR_REASON_ALREADY_EXISTS,
                f"{group} follows a schedule already, of this tenant or another one; choose another group",
                metadata={"name": group},
            )
        return before, after

    async def end(self, tx: Tx, group: str) -> SlackGroup:
        """The group as it was. Raises SLACK_GROUP_NOT_FOUND."""
        before = await slack_groups.read(tx, group)
        if before is None:
            raise not_found(ErrorReason.ERROR_REASON_SLACK_GROUP_NOT_FOUND, group)
        await slack_groups.delete(tx, group)
        return before


class KeepSlackGroups:
    """One object per process; every replica may run it."""

    def __init__(self, db: Database, escalation: Escalation, slack: SlackChannel, metrics: NotifyMetrics) -> None:
        self._db = db
        self._escalation = escalation
        self._slack = slack
        self._metrics = metrics

    async def everything(self) -> None:
        """One round: groups that are due beyond its limit wait for the next round. Raises DATABASE_UNAVAILABLE."""
        async with self._db.claim() as tx:
            due = await slack_groups.claim(tx, limit=_MOST_PER_ROUND, lease=_LEASE)
            now = await tx.now()
        due.sort(key=lambda each: each.org_id)
        await asyncio.gather(
            *(self._of_tenant(org_id, list(mine), now) for org_id, mine in groupby(due, key=lambda each: each.org_id))
        )

    async def _of_tenant(self, org_id: str, due: Sequence[SlackGroup], now: datetime) -> None:
        """A group that fails is due again later, and holds up no other tenant."""
        try:
            found = await self._escalation.resolve(org_id, [each.schedule for each in due], now)
            users = sorted({user for each in found for user in each.users})
            async with self._db.transaction(org_id) as tx:
                accounts = await contacts.accounts_at_slack(tx, users)
            for each, receivers in zip(due, found, strict=True):
                on_call = list(receivers.users) if receivers.exists else None
                wish = wish_for(each.schedule, on_call, accounts, disable_when_nobody=each.disable_when_nobody)
                await self._settle(await self._fulfil(each, wish, now))
        except TocsinError as error:
            _log.warning("slack_groups_wait", org_id=org_id, groups=len(due), reason=error.reason_name)
            # Escalation or the database is away. The group in Slack is unchanged; the end of the lease is the time of
            # the next check.
        except Exception:
            _log.exception("slack_groups_failed", org_id=org_id, groups=len(due))

    async def _fulfil(self, group: SlackGroup, wish: Wish, now: datetime) -> Settled:
        kept = Settled(group, None, group.disabled, 0, wish.problem, _LOOK_SECONDS)
        fresh = group.success_time is not None and now - group.success_time < _ANEW and not group.tries
        match wish.want:
            case Leave():
                return kept
            case Disable():
                if group.disabled and fresh:
                    return kept
                outcome = await self._slack.disable_group(group.id)
                return self._done(group, outcome, (), True, wish.problem)
            case SetMembers(members):
                if not group.disabled and fresh and members == tuple(group.members):
                    return kept
                outcome = await self._slack.enable_group(group.id) if group.disabled else Sent()
                if isinstance(outcome, Sent):
                    outcome = await self._slack.set_group(group.id, members)
                return self._done(group, outcome, members, False, wish.problem)

    def _done(
        self, group: SlackGroup, outcome: Outcome, members: Sequence[str], disabled: bool, problem: str
    ) -> Settled:
        if isinstance(outcome, Sent):
            self._metrics.slack_groups.labels("disabled" if disabled else "set").inc()
            _log.info("slack_group_set", org_id=group.org_id, group=group.id, members=len(members), disabled=disabled)
            return Settled(group, members, disabled, 0, problem, _LOOK_SECONDS)
        self._metrics.slack_groups.labels("failed").inc()
        _log.warning("slack_group_failed", org_id=group.org_id, group=group.id, reason=outcome.reason)
        after = outcome.after if isinstance(outcome, Retryable) else None
        tries = group.tries + 1
        pause = pause_after(tries, after, random.random())
        return Settled(group, None, group.disabled, tries, f"Slack: {outcome.reason}", pause)

    async def _settle(self, settled: Settled) -> None:
        await self._db.run(settled.of.org_id, lambda tx: slack_groups.settle(tx, settled))
