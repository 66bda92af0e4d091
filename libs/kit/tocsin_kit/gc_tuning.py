"""Python's cycle collector, configured for a process that lives long and makes many objects at once."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_YOUNG: Final = 2_500
"""Containers made, less those freed, before the young generation is examined.

All calls wait while it is. With 10,000, the collector stopped a service for 5 ms and more about once in a hundred answers, 24 ms
at worst. Now each examination of the young generation has a quarter as many containers to look at. Those of the older
generations are as seldom as before and take as long.
"""
_MIDDLE: Final = 40
"""Examinations of the young generation before the middle one is examined as well: after 100,000 containers.

With CPython's 700 and 10 it is examined after 7,000, which is one batch: under load the collector then examined the same living
rows and messages again and again. That cost more than all other work of filling an empty Redis with a million timers.
"""


@contextmanager
def switched_off() -> Iterator[None]:
    """For the imports of a service: the collector is off, and the objects of the imports are never examined.

    Imports make 120,000 containers that all stay: examining them again and again takes a sixth of the start.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def tune() -> None:
    """Call once, when a service is built: existing objects are never examined again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, _MIDDLE, 10)
