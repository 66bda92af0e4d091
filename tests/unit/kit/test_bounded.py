"""What a process remembers is bounded."""

from tocsin_kit.bounded import Bounded


def test_what_was_set_longest_ago_leaves_first() -> None:
    kept: Bounded[str, int] = Bounded(2)
    kept["a"] = kept["b"] = 1
    assert kept["a"] == 1, "to read is not to set"
    kept["c"] = 1
    assert list(kept) == ["b", "c"]
    kept["b"] = 2
    kept["d"] = 1
    assert kept == {"b": 2, "d": 1}


def test_many_at_once_are_bounded_too() -> None:
    kept: Bounded[int, None] = Bounded(3)
    kept |= dict.fromkeys(range(5))
    kept.update({5: None})
    kept.setdefault(6, None)
    assert list(kept) == [4, 5, 6]
