"""Changes a schedule without changing the past, and without changing who is on call today unless that is requested.

A layer is kept as versions, one after the other in time. A version that has begun is never edited: it is closed, and the new one
follows it.
"""

from collections.abc import Iterable
from dataclasses import replace
from enum import StrEnum
from typing import Final

from tocsin_escalation.domain.schedules.clock import DAY
from tocsin_escalation.domain.schedules.model import Group, Layer
from tocsin_escalation.domain.schedules.turns import Turns, turns_of

KEPT: Final = 400 * DAY
"""How long a closed version is kept for questions about the past."""
MOST_CLOSED: Final = 50
"""Closed versions of a schedule that are kept at most, the newest."""


class Rollout(StrEnum):
    """When a changed layer takes effect."""

    NOW = "now"
    """At once; the user who has the turn keeps it if the new line-up names them."""
    AFTER_SHIFT = "after_shift"
    """At the end of the current turn; the new line-up continues with its next group."""
    AFTER_ROUND = "after_round"
    """After every group of the old line-up has had its turn; the new one begins with its first."""


def changed(kept: Iterable[Layer], wanted: Iterable[Layer], now: int, rollout: Rollout) -> tuple[Layer, ...]:
    """The versions that make `wanted` the layers from now on. Layers are known by their ids; missing ones end now."""
    versions: dict[str, list[Layer]] = {}
    for layer in kept:
        versions.setdefault(layer.id, []).append(layer)
    result: list[Layer] = []
    for layer in wanted:
        result += _follow(versions.pop(layer.id, []), layer, now, rollout)
    for gone in versions.values():
        result += _closed(gone, now)
    return _pruned(result, now)


def current(kept: Iterable[Layer]) -> tuple[Layer, ...]:
    """The newest version of each layer: what people see and edit. Layers that a change has ended are not among them."""
    newest: dict[str, Layer] = {}
    for layer in kept:
        if layer.id not in newest or layer.since >= newest[layer.id].since:
            newest[layer.id] = layer
    return tuple(layer for layer in newest.values() if not layer.ended)


def begins(layer: Layer) -> int:
    """The first instant at which the version counts."""
    return max(layer.since, layer.not_before, turns_of(layer).start(0))


def _follow(versions: list[Layer], wanted: Layer, now: int, rollout: Rollout) -> list[Layer]:
    begun = [layer for layer in versions if begins(layer) <= now]
    pending = [layer for layer in versions if begins(layer) > now]
    if not begun:
        return [wanted]
    last = begun[-1]
    if pending and _alike(pending[-1], wanted):
        return [replace(layer, name=wanted.name) for layer in versions]
    if not pending and _alike(last, wanted):
        return [*begun[:-1], replace(last, name=wanted.name)]
    if last.until <= now:
        return [*begun, replace(wanted, since=now)]
    cutover = max(_cutover(last, now, rollout), begins(wanted) if begins(wanted) > now else now)
    closed = replace(last, until=min(cutover, wanted.until) if pending else min(last.until, cutover, wanted.until))
    return [*begun[:-1], closed, _aligned(last, wanted, now, cutover, rollout)]


def _alike(version: Layer, wanted: Layer) -> bool:
    """Whether a change leaves the version unchanged, except for its name."""
    return replace(version, since=wanted.since, shift=wanted.shift, name=wanted.name, ended=wanted.ended) == wanted


def _cutover(layer: Layer, now: int, rollout: Rollout) -> int:
    turns = turns_of(layer)
    turn = turns.at(now)
    match rollout:
        case Rollout.NOW:
            return now
        case Rollout.AFTER_SHIFT:
            return turns.start(turn + 1)
        case Rollout.AFTER_ROUND:
            return turns.start(_round_ends(turns, turn))


def _round_ends(turns: Turns, turn: int) -> int:
    """The next turn of the first group of the line-up."""
    following = turn + 1
    while turns.place(following) != 0:
        following += 1
    return following


def _aligned(old: Layer, wanted: Layer, now: int, cutover: int, rollout: Rollout) -> Layer:
    """The new version, its line-up moved so that the right group has the turn when it takes effect."""
    fresh = replace(wanted, since=cutover, shift=0)
    turns = turns_of(fresh)
    if turns.start(0) >= cutover:
        return fresh
    place = turns_of(old).place(turns_of(old).at(now))
    keeps = _kept_place(old.line_up[place], place, wanted.line_up)
    match rollout:
        case Rollout.NOW:
            first = keeps if keeps is not None else place
        case Rollout.AFTER_SHIFT:
            first = keeps + 1 if keeps is not None else place
        case Rollout.AFTER_ROUND:
            first = 0
    size = len(wanted.line_up)
    return replace(fresh, shift=(first - turns.place(turns.at(cutover))) % size)


def _kept_place(group: Group, place: int, line_up: tuple[Group, ...]) -> int | None:
    """The place of the group in another line-up: its old place if possible, else that of the same group, else that of any of its
    people."""
    if place < len(line_up) and line_up[place] == group:
        return place
    for number, other in enumerate(line_up):
        if other == group:
            return number
    return next((number for number, other in enumerate(line_up) if set(other) & set(group)), None)


def _closed(versions: list[Layer], now: int) -> list[Layer]:
    begun = [layer for layer in versions if begins(layer) < now]
    if not begun:
        return []
    return [*begun[:-1], replace(begun[-1], until=min(begun[-1].until, now), ended=True)]


def _pruned(layers: list[Layer], now: int) -> tuple[Layer, ...]:
    closed = sorted((layer for layer in layers if layer.until <= now), key=lambda layer: layer.until)
    dropped = {id(layer) for layer in closed if layer.until < now - KEPT}
    dropped |= {id(layer) for layer in closed[: max(0, len(closed) - MOST_CLOSED)]}
    return tuple(layer for layer in layers if id(layer) not in dropped)
