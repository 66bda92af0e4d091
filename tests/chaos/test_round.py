"""A short round of `make chaos`: some faults of a new random schedule each time. The seed is printed.

What starts processes of Tocsin takes seconds each time, and is tested in test_death_table.py and test_stopping.py.
"""

import random

import pytest

from tests.chaos.checker import check
from tests.chaos.fleet import Fleet, tell
from tests.chaos.load import ON_ITS_WAY
from tests.chaos.round import Plan, run
from tests.chaos.table import render

pytestmark = pytest.mark.chaos


async def test_a_short_round_breaks_no_promise(fleet: Fleet) -> None:
    slow = ("ingest killed", "escalation killed", "notify killed", "rolling restart", "restored")
    plan = Plan(seconds=6, seed=random.getrandbits(24), per_second=6, pause=1, longest=1, quiet=0.5, but=slow)
    history = await run(fleet, plan)
    tell("a short round", seed=plan.seed, faults=[fault.name for fault in history.faults])
    print(render(history))
    assert history.faults
    assert check(history, on_its_way=ON_ITS_WAY) == [], f"seed {plan.seed}"
