"""A short round of `make chaos`: some faults, with `make test` the same ones each time, so that it says something about the change
and not about the dice. The seed is printed.

What starts processes of Tocsin takes seconds each time, and is tested in test_death_table.py and test_stopping.py.
"""

import random

import pytest

from tests.chaos.checker import check
from tests.chaos.fleet import Fleet, tell
from tests.chaos.load import ON_ITS_WAY
from tests.chaos.round import Plan, run
from tests.chaos.table import render
from tests.rounds import LONG

pytestmark = pytest.mark.chaos

SEED = 16317
"""Redis forgets, notify's disk is full, an escalation stands still, providers cut connections."""
YOUNGER = ("writes fail", "writes paused", "loses keys", "keys overwritten")
"""Kinds that are not among those of which the seed chooses."""


async def test_a_short_round_breaks_no_promise(fleet: Fleet) -> None:
    slow = ("ingest killed", "escalation killed", "notify killed", "rolling restart", "restored", "takes over")
    seed = random.getrandbits(24) if LONG else SEED
    plan = Plan(
        seconds=6,
        seed=seed,
        per_second=6 if LONG else 4,
        pause=1,
        longest=1,
        quiet=0.5,
        but=slow if LONG else slow + YOUNGER,
    )
    history = await run(fleet, plan)
    tell("a short round", seed=plan.seed, faults=[fault.name for fault in history.faults])
    print(render(history))
    assert history.faults
    assert check(history, on_its_way=ON_ITS_WAY) == [], f"seed {plan.seed}"
