"""A process that migrates and dies on the way: `python -m tests.timers.migrating '<json>'`.

`die_at`: `armed`, after a batch was armed here and before it is removed there; `removed`, right after that.
"""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any

from taskiq_redis import ListRedisScheduleSource
from tocsin_timers import TimerBroker, TimerSource
from tocsin_timers.migration import Found, StockSchedules


async def main(settings: dict[str, Any]) -> None:
    remove = StockSchedules.remove

    async def deadly(self: StockSchedules, schedules: Sequence[Found]) -> int:
        if settings["die_at"] == "removed":
            await remove(self, schedules)
        os.kill(os.getpid(), signal.SIGKILL)
        return 0

    StockSchedules.remove = deadly  # type: ignore[method-assign]
    broker = TimerBroker(settings["url"], settings["queue"])
    stock = ListRedisScheduleSource(settings["url"], prefix=settings["prefix"])
    await TimerSource(broker).with_migrate_from(stock).migrate()


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
