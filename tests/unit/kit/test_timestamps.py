"""Times in messages are what protobuf's own way writes."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from tocsin_kit.rpc.timestamps import set_time


@pytest.mark.parametrize(
    "moment",
    [
        datetime(2026, 11, 29, 20, 25, 1, 999999, tzinfo=UTC),
        datetime(1969, 12, 31, 23, 59, 59, 1, tzinfo=UTC),
        datetime(1, 1, 1, tzinfo=UTC),
        datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
        datetime(2026, 6, 1, 2, tzinfo=timezone(timedelta(hours=5, minutes=45))),
    ],
    ids=str,
)
def test_a_time_is_written_as_the_calendar_does(moment: datetime) -> None:
    ours, theirs = Timestamp(), Timestamp()
    set_time(ours, moment)
    theirs.FromDatetime(moment)
    assert ours == theirs
