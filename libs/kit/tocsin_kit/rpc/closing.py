"""Ends the generators of streams."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any


@asynccontextmanager
async def closing(responses: Any) -> AsyncIterator[Any]:
    """A handler's finally blocks run at the end of the block, not when the garbage collector runs.

    A call that is cancelled in the moment in which its handler is resumed leaves the generator marked as running for
    ever (seen with CPython 3.11): then only the collector can end it.
    """
    try:
        yield responses
    finally:
        try:
            await responses.aclose()
        except RuntimeError as error:
            if "already running" not in str(error):
                raise
