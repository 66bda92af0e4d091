"""How many lines failed calls may cause."""

from tocsin_kit.failure_lines import FailureLines


def test_what_is_left_out_is_told_with_the_next_line() -> None:
    lines = FailureLines(per_second=1, at_once=3)
    assert [lines.take("a", 100.0) for _ in range(5)] == [{}, {}, {}, None, None]
    assert lines.take("b", 100.0) == {}
    assert lines.take("a", 101.0) == {"left_out": 2}
    assert lines.take("a", 102.0) == {}
