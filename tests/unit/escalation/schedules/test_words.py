"""A stretch of a schedule in words, with and without a reason."""

import pytest
from tocsin_escalation.domain.schedules.model import FOREVER, Coverage, Segment, Source, SourceKind
from tocsin_escalation.domain.schedules.words import tell

TURN = Source(SourceKind.LAYER, "week", ("ana",), 9)


@pytest.mark.parametrize(
    ("people", "sources", "away", "coverage", "words"),
    [
        (("ana",), (TURN,), (), Coverage.ON_CALL, "has users/ana on call (turn 9 of layer week)"),
        (
            ("ana",),
            (TURN,),
            ("ben",),
            Coverage.ON_CALL,
            "has users/ana on call (turn 9 of layer week; away: users/ben)",
        ),
        ((), (), (), Coverage.GAP, "has a gap: nobody is on call"),
        ((), (), ("ana", "ben"), Coverage.GAP, "has a gap: nobody is on call (away: users/ana, users/ben)"),
        ((), (TURN,), (), Coverage.NOBODY, "has nobody on call on purpose (turn 9 of layer week)"),
    ],
)
def test_why_is_told_as_far_as_it_is_known(
    people: tuple[str, ...], sources: tuple[Source, ...], away: tuple[str, ...], coverage: Coverage, words: str
) -> None:
    assert tell("web", Segment(0, FOREVER, people, sources, coverage, away)) == f"schedules/web {words}"
