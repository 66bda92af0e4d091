"""A short round of `make chaos`: some faults of a new random schedule each time. The seed is printed."""

import random

import pytest

from tests.chaos.checker import check
from tests.chaos.fleet import Fleet, tell
from tests.chaos.round import Plan, run
from tests.chaos.table import render

pytestmark = pytest.mark.chaos


async def test_a_short_round_breaks_no_promise(fleet: Fleet) -> None:
    plan = Plan(seconds=15, seed=random.getrandbits(24), per_second=8, pause=2, longest=1.5, quiet=1)
    history = await run(fleet, plan)
    tell("a short round", seed=plan.seed, faults=[fault.name for fault in history.faults])
    print(render(history))
    assert history.faults
    assert check(history) == [], f"seed {plan.seed}"
