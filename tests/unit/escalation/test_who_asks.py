"""Pages that come from what a person did: who is woken is told who asks for them, and nobody that they ask for themselves."""

import pytest
from tocsin_escalation.domain.events import Acknowledged, Escalated, Event, Reassigned, Restarted, Unacknowledged

from tests.unit.escalation.people import Story, level, policy, team

BEN = "users/ben"
TEAM = policy(level(team("core")))


@pytest.mark.parametrize(
    "event",
    [
        Escalated(BEN),
        Reassigned(BEN, policy=TEAM),
        Reassigned(BEN, targets=(team("core"),)),
        Restarted(BEN, TEAM),
    ],
)
def test_ben_is_in_the_team_for_which_he_asks_and_only_cem_hears_that_ben_does(event: Event) -> None:
    story = Story()
    story.take(Acknowledged(BEN))
    story.take(event)
    assert story.asked_by() == {"ben": "", "cem": BEN}


@pytest.mark.parametrize("event", [Reassigned(BEN, targets=(team("empty"),)), Unacknowledged(BEN)])
def test_ana_is_woken_again_for_what_ben_had_and_hears_that_it_was_ben(event: Event) -> None:
    story = Story()
    story.take(Acknowledged(BEN))
    story.take(event)
    assert story.asked_by() == {"ana": BEN}


def test_what_nobody_answers_wakes_the_next_because_nobody_asks() -> None:
    story = Story()
    story.take(Escalated("users/ana"))
    story.passes(5)
    story.timer_fires()
    assert story.asked_by() == {"dora": ""}
