"""Two faults at once, of different things."""

import random
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final

from tests.chaos.faults import SERVICES, Kind

SUBJECTS: Final = (*SERVICES, "PostgreSQL", "Valkey", "provider")
"""A process that is killed is started again and waited for: what it needs is whole before, so these are in this order."""


def paired(kinds: Sequence[Kind], dice: random.Random) -> list[Kind]:
    """Each of these together with another one, but those that stop services for longer by themselves."""
    left = [each for each in kinds if not (each.restores or each.alone) and subjects_of(each)]
    return [_pair(each, dice.choice([other for other in left if apart(each, other)])) for each in left]


def apart(one: Kind, other: Kind) -> bool:
    """Whether both can be broken and mended without a look at each other."""
    return not subjects_of(one) & subjects_of(other)


def subjects_of(kind: Kind) -> set[str]:
    """What it breaks."""
    return {subject for subject in SUBJECTS if subject in kind.name}


def _pair(one: Kind, other: Kind) -> Kind:
    outer, inner = sorted((one, other), key=lambda kind: min(map(SUBJECTS.index, subjects_of(kind))))

    @asynccontextmanager
    async def broken() -> AsyncIterator[None]:
        async with outer.broken(), inner.broken():
            yield

    def both() -> AbstractAsyncContextManager[object]:
        return broken()

    return Kind(
        f"{outer.name}, {inner.name}",
        both,
        max(one.shortest, other.shortest),
        max(one.longest, other.longest),
        harms_calls=one.harms_calls or other.harms_calls,
    )
