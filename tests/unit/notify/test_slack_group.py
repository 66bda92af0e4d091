"""What a user group of Slack should be: pure, so every case is cheap."""

import pytest
from tocsin_notify.domain.slack_group import Disable, Leave, SetMembers, pause_after, wish_for

ACCOUNTS = {"users/ana": "UANA00001", "users/ben": "UBEN00001"}


def test_the_members_are_those_on_call_who_have_an_account() -> None:
    wish = wish_for("schedules/core", ["users/ben", "users/ana"], ACCOUNTS, disable_when_nobody=False)
    assert wish.want == SetMembers(("UANA00001", "UBEN00001"))
    assert wish.problem == ""
    some = wish_for("schedules/core", ["users/ana", "users/cleo"], ACCOUNTS, disable_when_nobody=False)
    assert some.want == SetMembers(("UANA00001",))
    assert "users/cleo" in some.problem


@pytest.mark.parametrize("disable", [False, True])
def test_for_want_of_knowledge_a_group_is_left_as_it_is(disable: bool) -> None:
    gone = wish_for("schedules/core", None, {}, disable_when_nobody=disable)
    assert isinstance(gone.want, Leave)
    assert "schedules/core does not exist any more" in gone.problem
    strangers = [f"users/{number}" for number in range(7)]
    unknown = wish_for("schedules/core", strangers, ACCOUNTS, disable_when_nobody=disable)
    assert isinstance(unknown.want, Leave)
    assert unknown.problem.endswith("users/4 and 2 more")


def test_when_no_user_is_on_call_it_is_disabled_only_if_that_was_wished() -> None:
    assert isinstance(wish_for("schedules/core", [], ACCOUNTS, disable_when_nobody=True).want, Disable)
    assert isinstance(wish_for("schedules/core", [], ACCOUNTS, disable_when_nobody=False).want, Leave)


def test_pauses_grow_up_to_half_an_hour_and_follow_what_slack_asks_for() -> None:
    pauses = [pause_after(tries, None, 1.0) for tries in (1, 2, 3, 20, 10_000)]
    assert pauses == [10.0, 20.0, 40.0, 1800.0, 1800.0]
    assert pause_after(1, 30.0, 0.0) == 30.0
    assert pause_after(1, 1e9, 0.0) == 1800.0
