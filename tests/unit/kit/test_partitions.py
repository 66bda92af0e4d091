"""When partitions are made, and when all in one is old enough to drop it."""

import itertools
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st
from tocsin_kit.db.partitions import Partition, missing, old, width

NOW = datetime(2026, 11, 29, 11, 30, tzinfo=UTC)
TODAY = NOW.replace(hour=0, minute=0)
DAY = timedelta(days=1)
REST = Partition("rest", None, None)


def made(newest: datetime | None = None, known: tuple[Partition, ...] = (REST,), days: int = 90) -> list[Partition]:
    return [Partition("made", *each) for each in missing(known, newest, NOW, days * DAY)]


def test_rows_that_are_kept_for_long_are_in_few_partitions_and_those_kept_for_days_in_one_for_each_day() -> None:
    assert [width(days * DAY) // DAY for days in (1, 15, 16, 90, 365)] == [1, 1, 2, 6, 25]


def test_the_first_partition_begins_with_the_day() -> None:
    first, *others = made()
    assert (first.start, first.end) == (TODAY, TODAY + 6 * DAY)
    assert others[-1].end is not None
    assert others[-1].end >= NOW + 6 * DAY


def test_what_was_closed_while_no_replica_made_any_stays_where_it_is() -> None:
    assert made(newest=NOW)[0].start == TODAY + DAY


def test_partitions_go_on_where_the_last_one_ends_also_after_an_upgrade_in_the_middle_of_a_day() -> None:
    before = Partition("before", None, NOW - timedelta(minutes=1))
    assert made(known=(before, REST))[0].start == before.end


@given(st.integers(1, 400), st.lists(st.integers(0, 40), max_size=60))
def test_the_days_are_covered_without_a_gap_whenever_the_sweep_runs(days: int, pauses: list[int]) -> None:
    kept, now, known = days * DAY, NOW, [REST]
    for pause in pauses:
        now += pause * DAY
        known = [each for each in known if each not in old(known, now, kept)]
        known += [Partition("made", *each) for each in missing(known, None, now, kept)]
        assert not list(missing(known, None, now, kept))
        dated = sorted((each.start, each.end) for each in known if each.start is not None and each.end is not None)
        covering = [(start, end) for start, end in dated if end > now]
        assert covering[0][0] <= now
        assert covering[-1][1] >= now + DAY
        assert all(one[1] <= other[0] for one, other in itertools.pairwise(dated))
        assert all(one[1] == other[0] for one, other in itertools.pairwise(covering))
        assert len(dated) <= 20


def test_a_partition_goes_once_its_newest_row_is_old() -> None:
    known = [REST, Partition("due", NOW - 96 * DAY, NOW - 90 * DAY), Partition("young", NOW - 90 * DAY, NOW - 84 * DAY)]
    assert [each.name for each in old(known, NOW, 90 * DAY)] == ["due"]
