"""Counts of what comes and goes."""

from tocsin_kit.counts import Counts


def test_what_has_gone_is_forgotten() -> None:
    open_of: Counts[str] = Counts()
    open_of["a"] += 2
    open_of["b"] += 5
    open_of.less("a")
    assert (open_of["a"], open_of.total()) == (1, 6)
    open_of.less("a")
    open_of.less("b", 5)
    assert open_of == {}
    assert open_of["a"] == 0, "and is not there again because somebody looked"
    assert not list(open_of)
