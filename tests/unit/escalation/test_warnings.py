"""Targets that reach no one, as a policy warns of them."""

from hypothesis import given
from hypothesis import strategies as st
from tocsin_escalation.domain.policy import Directory
from tocsin_escalation.domain.warnings import warn

from tests.unit.escalation.people import EVERYBODY, level, policy, team, user

NO_METHOD = "no verified contact method"
PEOPLE = ("ana", "ben", "cem")


def messages(*targets: object, unreachable: dict[str, str], fallback: object = None) -> list[str]:
    warned = warn(policy(level(*targets), fallback_target=fallback), EVERYBODY, unreachable)  # type: ignore[arg-type]
    return [each.message for each in warned]


def test_a_user_without_a_method_is_warned_of_and_one_with_a_method_is_not() -> None:
    assert messages(user("ana"), user("ben"), unreachable={"ana": NO_METHOD}) == [
        "users/ana cannot be reached: no verified contact method"
    ]


def test_a_team_is_warned_of_when_none_of_it_can_be_reached() -> None:
    assert messages(team("core"), unreachable={"ben": NO_METHOD}) == []
    assert messages(team("core"), unreachable={"ben": NO_METHOD, "cem": "off"}) == [
        "nobody of teams/core can be reached (ben: no verified contact method; cem: off)"
    ]


def test_who_cannot_be_paged_at_all_is_warned_of_without_asking_notify() -> None:
    assert messages(user("gone"), team("empty"), unreachable={}) == [
        "users/gone cannot be paged: the user does not exist or is disabled",
        "teams/empty has no member who can be paged",
    ]


def test_the_fallback_target_is_level_0() -> None:
    warned = warn(policy(level(user("ben")), fallback_target=user("ana")), EVERYBODY, {"ana": NO_METHOD})
    assert [(each.level, each.target) for each in warned] == [(0, user("ana"))]


@given(
    members=st.lists(st.sampled_from(PEOPLE), unique=True),
    enabled=st.frozensets(st.sampled_from(PEOPLE)),
    unreachable=st.frozensets(st.sampled_from(PEOPLE)),
)
def test_a_target_is_warned_of_exactly_when_no_user_behind_it_can_be_reached(
    members: list[str], enabled: frozenset[str], unreachable: frozenset[str]
) -> None:
    directory = Directory(enabled, {"team": tuple(members)})
    warned = warn(policy(level(team("team"))), directory, dict.fromkeys(unreachable, NO_METHOD))
    assert bool(warned) == (not (set(members) & enabled - unreachable))
