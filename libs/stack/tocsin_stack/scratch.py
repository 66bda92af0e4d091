"""A folder for data that may be lost."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - only ever the parent of a folder with an unguessable name
_ENOUGH: Final = 1 << 29  # containers often have 64 MiB there, and one cluster takes 40


@contextmanager
def scratch(prefix: str = "tocsin-", *, needs: int = _ENOUGH) -> Iterator[Path]:
    """A throw-away folder, in memory where there is room: making and cloning databases is several times faster there.

    `needs`: bytes that will be in it.
    """
    in_memory = _MEMORY.is_dir() and os.access(_MEMORY, os.W_OK) and shutil.disk_usage(_MEMORY).free > 2 * needs
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=_MEMORY if in_memory else None))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)
