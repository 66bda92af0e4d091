"""The checker finds each fault that is planted in a history, and nothing in one without."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.chaos.checker import check, excused_doubles, lateness, overtaken
from tests.chaos.history import Alert, Call, Fault, History


def history(**alert: object) -> History:
    """One alert at 100.0 whose two levels ring in time."""
    base = Alert("incident", 100.0, ("ana", "ben"), timeout=2.0)
    calls = [
        Call("ana", "incident", 1, "key 1", began=100.01, answered=100.02),
        Call("ben", "incident", 2, "key 2", began=102.02, answered=102.03),
    ]
    return History(alerts=[replace(base, **alert)], calls=calls)  # type: ignore[arg-type]


def found(history: History) -> list[str]:
    return [each.rule for each in check(history)]


def test_nothing_is_found_where_nothing_is_wrong() -> None:
    assert found(history()) == []
    assert [round(each.seconds, 2) for each in lateness(history())] == [0.01, 0.01]
    assert len(lateness(history(ending="acknowledged", ended=101.0))) == 1


@pytest.mark.parametrize("level", [1, 2])
def test_a_level_that_never_rings_is_lost(level: int) -> None:
    told = history()
    told.calls = [call for call in told.calls if call.level != level]
    assert "lost" in found(told)


def test_a_call_that_was_not_answered_did_not_ring() -> None:
    told = history()
    told.calls[1].answered = None
    assert found(told) == ["lost"]


@pytest.mark.parametrize("ending", ["acknowledged", "closed", "over"])
def test_what_was_ended_need_not_ring(ending: str) -> None:
    told = history(ending=ending, ended=100.0)
    told.calls = []
    assert found(told) == []


def test_another_key_is_a_double_after_any_fault() -> None:
    told = history()
    told.calls.append(Call("ben", "incident", 2, "key 3", began=103.0, answered=103.0))
    told.faults = [Fault("killed", 102.0, 103.0, harms_calls=True)]
    assert found(told) == ["double"]


def test_the_same_key_twice_is_a_double_unless_its_caller_was_harmed() -> None:
    told = history()
    told.calls.append(Call("ben", "incident", 2, "key 2", began=105.0, answered=105.0))
    assert found(told) == ["double"]
    told.faults = [Fault("another process", 102.0, 103.0)]
    assert found(told) == ["double"]
    assert excused_doubles(told) == []
    told.faults = [Fault("killed", 102.01, 102.5, harms_calls=True)]
    assert found(told) == []
    assert len(excused_doubles(told)) == 1
    told.faults = [Fault("killed later", 105.5, 106.0, harms_calls=True)]
    assert found(told) == ["double"]
    told.faults = [Fault("killed and back before", 80.0, 81.0, harms_calls=True)]
    assert found(told) == ["double"]


def test_a_repeat_of_a_call_that_was_refused_is_no_double() -> None:
    told = history()
    told.calls.insert(1, Call("ben", "incident", 2, "key 2", began=102.01))
    assert found(told) == []


@pytest.mark.parametrize("ending", ["acknowledged", "closed"])
def test_a_call_after_the_ok_is_found_whether_it_rang_or_not(ending: str) -> None:
    told = history(ending=ending, ended=101.0)
    assert found(told) == ["after OK"]
    told.calls[1].answered = None
    assert found(told) == ["after OK"]
    told.stalls = [(100.9, 102.0)]
    assert found(told) == [], "the recorder stood still in between"
    told.stalls = [(101.5, 102.0)]
    assert found(told) == ["after OK"], "it began to stand still when the call was not due yet"
    told.stalls = []
    told.faults = [Fault("frozen", 100.9, 102.0, harms_calls=True)]
    assert found(told) == [], "the caller stood still in between"


def test_a_level_before_the_one_below_it_is_counted_and_no_violation() -> None:
    told = history()
    assert overtaken(told) == []
    told.calls[0].began, told.calls[0].answered, told.calls[1].began = 103.0, 103.0, 102.01
    assert found(told) == []
    assert [call.level for call in overtaken(told)] == [2]


def test_how_long_a_call_may_take_to_arrive_depends_on_the_machine() -> None:
    told = history(ending="closed", ended=101.5)
    assert [each.rule for each in check(told, on_its_way=0.5)] == ["after OK"]
    assert check(told, on_its_way=0.6) == []


def test_calls_that_belong_to_no_page_are_found() -> None:
    told = history()
    told.calls.append(Call("ana", "another", 1, "key 3", began=103.0, answered=103.0))
    told.calls.append(Call("ana", "incident", 2, "key 4", began=103.0, answered=103.0))
    told.calls.append(Call("ana", "incident", 3, "key 5", began=103.0, answered=103.0))
    assert found(told) == ["nobody's"] * 3


def test_what_a_restored_database_forgot_may_ring_again_and_must_ring() -> None:
    told = history(ending="acknowledged", ended=101.0)
    told.calls.append(Call("ana", "incident", 1, "key 3", began=110.0, answered=110.0))
    told.faults = [Fault("restored", 105.0, 106.0, forgets_since=100.5)]
    assert found(told) == []
    told.faults = [Fault("restored", 125.0, 126.0, forgets_since=120.0)]
    assert set(found(told)) == {"double", "after OK"}, "all of it was in the copy"
    told = history()
    told.calls = []
    told.faults = [Fault("restored", 105.0, 106.0, forgets_since=100.5)]
    assert "lost" in found(told)


def test_a_history_is_the_same_after_it_was_written_and_read(tmp_path: Path) -> None:
    path = tmp_path / "history.json"
    told = history(ending="over", ended=101.0)
    told.faults = [Fault("restored", 105.0, 106.0, forgets_since=100.5)]
    told.stalls = [(1.0, 2.0)]
    told.write(path)
    assert History.read(path) == told
