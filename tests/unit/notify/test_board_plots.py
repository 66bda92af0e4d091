"""What the board plots, as an operator reads it."""

from datetime import UTC, datetime

import pytest
from tocsin.queue.v1 import task_pb2
from tocsin_notify.http.board_plots import plots, seconds


def test_each_plot_says_of_which_zone_its_times_are() -> None:
    minute = task_pb2.QueueMinute(completed=3)
    minute.start_time.FromDatetime(datetime(2026, 11, 30, 3, 12, tzinfo=UTC))
    assert plots([minute]).count("(UTC)</") == 3


@pytest.mark.parametrize(
    ("value", "said"), [(0.591, "591 ms"), (90.0, "90.0 s"), (240.0, "4 min"), (33_282.7, "9 h 14 min")]
)
def test_a_long_time_is_told_in_hours(value: float, said: str) -> None:
    assert seconds(value) == said
