"""Policies: who is paged, and in which order."""

from collections.abc import Callable

from tocsin.errors.v1 import error_reason_pb2 as reasons
from tocsin_kit.db.pool import Database, Tx
from tocsin_kit.errors import TocsinError, invalid, not_found
from tocsin_kit.rpc.masks import require_etag

from tocsin_escalation.app.computing import Computations
from tocsin_escalation.app.people import targets
from tocsin_escalation.domain.conditions import ALWAYS, SEVERITIES
from tocsin_escalation.domain.policy import GapChoice, Level, Policy, Target, TargetKind
from tocsin_escalation.domain.schedules.checks import too_much_together
from tocsin_escalation.domain.schedules.versions import current
from tocsin_escalation.domain.schedules.work import coming
from tocsin_escalation.domain.urgencies import deferral
from tocsin_escalation.store.people import policies
from tocsin_escalation.store.people.policies import PolicyRow
from tocsin_escalation.store.schedules import schedules
from tocsin_escalation.store.schedules.on_call import READ_AT_ONCE


async def get(db: Database, org_id: str, id: str) -> PolicyRow:
    """One policy. Raises POLICY_NOT_FOUND."""
    async with db.transaction(org_id) as tx:
        return await _must(tx, id)


async def create(
    tx: Tx, policy: Policy, display_name: str, tenant_fallback: bool, computations: Computations
) -> PolicyRow:
    """A new policy. Raises ALREADY_EXISTS, and what `check` raises."""
    await check(tx, policy, computations)
    row = await policies.insert(tx, policy, display_name, tenant_fallback)
    if row is None:
        name = f"policies/{policy.id}"
        raise TocsinError(reasons.ERROR_REASON_ALREADY_EXISTS, f"{name} exists already", metadata={"name": name})
    return row


async def update(
    tx: Tx, id: str, etag: str, change: Callable[[PolicyRow], tuple[Policy, str, bool]], computations: Computations
) -> PolicyRow:
    """The policy after `change`. Raises POLICY_NOT_FOUND, ETAG_MISMATCH and what `change` raises."""
    row = await _must(tx, id, lock=True)
    require_etag(etag, row.version)
    policy, display_name, tenant_fallback = change(row)
    await check(tx, policy, computations, kept=row.policy)
    return await policies.update(tx, policy, display_name, tenant_fallback)


async def delete(tx: Tx, id: str, etag: str) -> PolicyRow:
    """Delete a policy; returns it as it was. Incidents under way have their own copy. Raises POLICY_NOT_FOUND, ETAG_MISMATCH."""
    row = await _must(tx, id, lock=True)
    require_etag(etag, row.version)
    await policies.delete(tx, id)
    return row


async def _must(tx: Tx, id: str, *, lock: bool = False) -> PolicyRow:
    row = await policies.get(tx, id, lock=lock)
    if row is None:
        raise not_found(reasons.ERROR_REASON_POLICY_NOT_FOUND, f"policies/{id}")
    return row


async def check(
    tx: Tx, policy: Policy, computations: Computations, at: str = "policy", kept: Policy | None = None
) -> None:
    """Raises the errors with which CreatePolicy and UpdatePolicy refuse a policy: INVALID_FIELD, USER_NOT_FOUND, TEAM_NOT_FOUND,
    SCHEDULE_NOT_FOUND.

    `at` is the field of the policy. `kept`: the stored policy; the work of its schedules is checked only if the new one names
    others.
    """
    for number, level in enumerate(policy.levels):
        problem = None if level.condition is ALWAYS else level.condition.problem()
        if problem:
            raise invalid(f"{at}.levels[{number}].condition{problem[0]}", problem[1])
        _check_repeats(level, f"{at}.levels[{number}]")
        if level.turn_timeout is None:
            continue
        if not level.in_turn:
            raise invalid(
                f"{at}.levels[{number}].turn_timeout",
                "may be set only for mode LEVEL_MODE_IN_TURN: else there are no turns",
            )
        if level.turn_timeout >= level.timeout:
            raise invalid(
                f"{at}.levels[{number}].turn_timeout",
                "must be shorter than the level's timeout, within which people have turns",
            )
    await _check_urgency(tx, policy, at)
    named = [
        (f"{at}.levels[{number}].targets[{position}]", target)
        for number, level in enumerate(policy.levels)
        for position, target in enumerate(level.targets)
    ]
    if policy.fallback_target:
        named.append((f"{at}.fallback_target", policy.fallback_target))
    elif policy.on_gap is GapChoice.FALLBACK:
        raise invalid(f"{at}.fallback_target", "must be set, because on_gap says that it is paged instead of a gap")
    if (policy.unresolved_after is None) != (policy.unresolved_target is None):
        lacking = "unresolved_target" if policy.unresolved_target is None else "unresolved_after"
        raise invalid(f"{at}.{lacking}", "must be set, or neither `unresolved_after` nor `unresolved_target`")
    if policy.unresolved_target:
        if policy.unresolved_target.kind is TargetKind.SCHEDULE:
            raise invalid(f"{at}.unresolved_target", "must be a user or a team")
        named.append((f"{at}.unresolved_target", policy.unresolved_target))
    if policy.team:
        named.append((f"{at}.team", Target(TargetKind.TEAM, policy.team)))
    if policy.next_policy == policy.id:
        raise invalid(f"{at}.next_policy", "must name another policy; to page the same levels again, set repeat_count")
    await targets.check(tx, named)
    if policy.next_policy and await policies.missing(tx, tx.org_id, [policy.next_policy]):
        raise targets.no_policy(policy.next_policy, f"{at}.next_policy")
    named_before = set(kept.schedules()) if kept else set[str]()
    if not set(policy.schedules()) <= named_before:
        await _afford(tx, policy, computations, at)


def _check_repeats(level: Level, at: str) -> None:
    if (level.repeats > 0) != (level.repeat_interval is not None):
        lacking = "repeat_interval" if level.repeats else "repeat_count"
        raise invalid(f"{at}.{lacking}", "must be set, or neither `repeat_count` nor `repeat_interval`")
    if level.repeat_interval is None:
        return
    if level.in_turn:
        raise invalid(f"{at}.repeat_count", "may be set only for mode LEVEL_MODE_ALL: one in turn is paged once")
    if level.repeats * level.repeat_interval >= level.timeout:
        raise invalid(f"{at}.repeat_interval", "all repeats must begin before the level's timeout is over")


async def _check_urgency(tx: Tx, policy: Policy, at: str) -> None:
    """An incident must not wait for ever."""
    for number, rule in enumerate(policy.urgency_rules):
        problem = None if rule.condition is ALWAYS else rule.condition.problem()
        if problem:
            raise invalid(f"{at}.urgency_rules[{number}].condition{problem[0]}", problem[1])
    if not policy.urgency_rules:
        return
    now = await tx.now()
    for severity, word in SEVERITIES.items():
        found = deferral(policy.urgency_rules, severity, now)
        if found is not None and found.until is None:
            text = (
                f"defers incidents of severity {word} for ever: give its condition windows, outside of which they page"
            )
            raise invalid(f"{at}.urgency_rules[{found.rule - 1}].urgency", text)


async def _afford(tx: Tx, policy: Policy, computations: Computations, at: str) -> None:
    """The rows of incidents are locked while their schedules are resolved, so the schedules of a policy are limited in number and
    size."""
    layers = await schedules.layers_of(tx, policy.schedules())
    if sum(map(len, layers.values())) <= READ_AT_ONCE:
        problem = _costs_too_much(layers)
    else:
        problem = computations.result(_costs_too_much, layers)
    if problem:
        raise invalid(f"{at}.levels", problem)


def _costs_too_much(layers: dict[str, str]) -> str:
    return too_much_together({id: coming(current(schedules.layers_from_json(text))) for id, text in layers.items()})
