"""Work on many things together, in which one that fails holds up no other."""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from tocsin_kit.errors import TocsinError

T = TypeVar("T")


async def in_halves(
    items: Sequence[T], work: Callable[[Sequence[T]], Awaitable[object]], failed: Callable[[T], None]
) -> None:
    """`work` with all of them; where it raises, with their halves, down to the one that fails, of which `failed` is told.

    `work` is one transaction, so what it has done before it raises is undone. Raises a TocsinError, which stands for all of them:
    the database is away. `failed` is called while the exception is handled.
    """
    try:
        await work(items)
    except TocsinError:
        raise
    except Exception:
        if len(items) == 1:
            failed(items[0])
            return
        middle = len(items) // 2
        await in_halves(items[:middle], work, failed)
        await in_halves(items[middle:], work, failed)
