"""Arm, move and cancel timers, with the worker in the same process: `python reminders.py redis://127.0.0.1:6379/0`."""

import asyncio
import json
import sys
from datetime import UTC, datetime, timedelta

from tocsin_timers import TimerBroker, TimerSource, Worker


async def main(url: str) -> None:
    """Arms two timers, moves one, cancels the other, and waits for the one that is left."""
    broker = TimerBroker(url, queue="reminders")
    source = TimerSource(broker, clock=lambda: datetime.now(UTC))
    heard = asyncio.Event()

    @broker.task
    async def remind(what: str) -> None:
        sys.stdout.write(f"reminder: {what}\n")
        heard.set()

    stop = asyncio.Event()
    worker = asyncio.create_task(Worker(broker).run(stop))

    now = datetime.now(UTC)
    await remind.kicker().with_schedule_id("tea").schedule_by_time(source, now + timedelta(hours=1), "tea is ready")
    # The same id again: moved, not doubled.
    await remind.kicker().with_schedule_id("tea").schedule_by_time(source, now + timedelta(seconds=1), "tea is ready")
    meeting = await remind.kicker().schedule_by_time(source, now + timedelta(hours=2), "meeting")
    cancelled = await source.delete_schedule(meeting.schedule_id)

    await heard.wait()
    stop.set()
    await worker
    sys.stdout.write(json.dumps({"cancelled": cancelled}) + "\n")


asyncio.run(main(sys.argv[1]))
