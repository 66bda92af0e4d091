"""Processes that only burn processor time: what of a figure is the want of processors, and nothing else.

`python -m tests.bench.burners SHARE SECONDS` burns that part of a core, a little at a time, and ends after so many seconds.
"""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

MOST_SECONDS: Final = 60.0
"""They end after that in any case."""
_PIECE: Final = 0.002
"""Seconds of a burst: about what a statement about a batch takes, or a run of an event loop that has much to do."""
_SESSIONS: Final = {"postgresql": 3}
"""Processes of one kind that are busy at once; of the others there is one."""
_LEAST: Final = 0.01
_ROOT: Final = Path(__file__).parents[2]


@asynccontextmanager
async def burning(shares: Mapping[str, float]) -> AsyncIterator[None]:
    """Inside the block each kind's part of a core is burned, by as many processes as are busy with it at once."""
    parts = [
        share / _SESSIONS.get(kind, 1)
        for kind, share in shares.items()
        for _ in range(_SESSIONS.get(kind, 1))
        if share > _LEAST
    ]
    children = [
        await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.bench.burners", f"{part:.4f}", f"{MOST_SECONDS}"), cwd=_ROOT
        )
        for part in parts
    ]
    try:
        await asyncio.sleep(1.0)  # all of them have started
        yield
    finally:
        for child in children:
            child.kill()
            await child.wait()


def burn(share: float, seconds: float) -> None:
    """What was missed for want of a processor is made up for, as work that waits is."""
    share, began = min(share, 1.0), time.monotonic()
    used = time.process_time()
    end = began + seconds
    while time.monotonic() < end:
        piece = time.process_time() + _PIECE
        while time.process_time() < piece:
            pass
        time.sleep(max(0.0, (time.process_time() - used) / share - (time.monotonic() - began)))


if __name__ == "__main__":
    burn(float(sys.argv[1]), float(sys.argv[2]))
