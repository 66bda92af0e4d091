"""`make chaos MINUTES=10`: break one thing after the other under load, check what came of it, and print the table."""

import argparse
import asyncio
import os
import random
import sys
from pathlib import Path

from tocsin_stack.scratch import scratch

from tests.chaos.cables import laid
from tests.chaos.checker import check
from tests.chaos.fleet import Fleet
from tests.chaos.round import Plan, run
from tests.chaos.table import render


async def main() -> int:
    """Returns 1 when a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--seed", type=int, default=random.getrandbits(24), help="the same faults in the same order")
    parser.add_argument("--per-second", type=float, default=10, help="alerts")
    parser.add_argument("--only", default="", help="faults whose name contains this, or one of these: a|b")
    parser.add_argument("--pairs", action="store_true", help="two faults at a time, of different things")
    parser.add_argument("--history", type=Path, help="where to write everything that was recorded, as JSON")
    arguments = parser.parse_args()
    plan = Plan(
        arguments.minutes * 60, arguments.seed, arguments.per_second, only=arguments.only, pairs=arguments.pairs
    )
    began = os.getloadavg()[0]
    print(f"seed {plan.seed}, {arguments.minutes:g} min, {plan.per_second:g} alerts/s, {os.cpu_count()} cores")
    with scratch() as folder:
        async with Fleet(folder, quick=False) as fleet, laid(fleet) as cables:
            history = await run(fleet, plan, say=lambda line: print(line, flush=True), cables=cables)
    if arguments.history:
        history.write(arguments.history)
    print(f"\n{len(history.alerts)} alerts, {len(history.calls)} calls, {len(history.faults)} faults; seconds late")
    print(render(history))
    print(f"the machine's load: {began:.1f} at the start, {os.getloadavg()[0]:.1f} at the end")
    print(f"this process stood still {len(history.stalls)} times, {_longest(history.stalls):.2f} s at most")
    print(f"told instead of OK: {history.refusals or 'nothing'}")
    violations = check(history)
    for each in violations[:50]:
        print(f"BROKEN {each.rule}: {each.incident}: {each.detail}")
    if len(violations) > 50:
        print(f"and {len(violations) - 50} more")
    return 1 if violations else 0


def _longest(stalls: list[tuple[float, float]]) -> float:
    return max((ended - began for began, ended in stalls), default=0.0)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
