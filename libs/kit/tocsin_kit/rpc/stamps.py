"""Times in messages, where many are written."""

from datetime import UTC, datetime, timedelta
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


def set_time(stamp: Timestamp, moment: datetime) -> None:
    """A quarter of what `FromDatetime` takes, which goes through the calendar."""
    stamp.seconds, microseconds = divmod((moment - _EPOCH) // _MICROSECOND, 1_000_000)
    stamp.nanos = microseconds * 1000
