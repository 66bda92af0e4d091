"""Options of a queue: what is chosen over the settings, and what is refused. A row is read again without a restart."""

from datetime import timedelta

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from tocsin.queue.v1.queue_options_pb2 import QueueOptions
from tocsin.queue.v1.queue_service_pb2 import Queue
from tocsin_kit.errors import TocsinError
from tocsin_kit.tasks.options import LiveOptions, changed, merged, read


def options(*, backoff: float = 0.0, most: float = 0.0, **fields: int) -> QueueOptions:
    made = QueueOptions(**fields)  # type: ignore[arg-type]
    for duration, seconds in ((made.backoff, backoff), (made.most_backoff, most)):
        if seconds:
            duration.FromTimedelta(timedelta(seconds=seconds))
    return made


DEFAULTS = options(attempts=5, backoff=2, most=300, concurrency=200, urgent_reserve=50, keep_failed=500)


def update(chosen: QueueOptions, given: QueueOptions, *paths: str) -> QueueOptions:
    return changed(DEFAULTS, chosen, Queue(options=given), FieldMask(paths=paths))


def test_what_is_set_is_chosen_and_the_rest_stays() -> None:
    chosen = update(options(attempts=3), options(keep_failed=0))
    assert chosen == options(attempts=3, keep_failed=0)
    whole = merged(DEFAULTS, chosen)
    assert (whole.attempts, whole.keep_failed, whole.concurrency) == (3, 0, 200)


def test_what_the_mask_names_and_is_not_set_goes_back_to_the_default() -> None:
    before = options(attempts=3, concurrency=80)
    assert update(before, options(), "options.attempts") == options(concurrency=80)
    assert update(before, options(attempts=9), "options") == options(attempts=9)
    assert update(before, options(attempts=9), "name", "etag") == before, "figures and names are not written"
    with pytest.raises(TocsinError, match="there is no field"):
        update(before, options(), "options.colour")


@pytest.mark.parametrize(
    ("given", "field"),
    [
        (options(rate_per_minute=100), "queue.options.rate_per_minute"),
        (options(backoff=20, most=10), "queue.options.most_backoff"),
        (options(most=1), "queue.options.most_backoff"),
        (options(concurrency=5, urgent_reserve=5), "queue.options.urgent_reserve"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(given: QueueOptions, field: str) -> None:
    with pytest.raises(TocsinError) as refused:
        update(options(), given)
    assert [violation.field for violation in refused.value.fields] == [field]


def test_slots_for_others_are_left_with_any_settings() -> None:
    """Fewer slots than the settings keep for urgent pages: one is left for what is not urgent."""
    whole = merged(DEFAULTS, options(concurrency=5))
    assert (whole.concurrency, whole.urgent_reserve) == (5, 4)
    assert merged(DEFAULTS, options(backoff=400)).most_backoff.seconds == 400


def test_who_follows_is_called_when_something_changed() -> None:
    live, seen = LiveOptions("mail", DEFAULTS), []
    live.follow(lambda now: seen.append(now.attempts))
    live.take(options(), 1)
    live.take(options(attempts=2), 2)
    live.take(options(attempts=2), 3)
    live.take(options(), 4)
    assert seen == [2, 5]
    assert live.version == 4


def test_a_row_that_cannot_be_read_counts_as_empty() -> None:
    assert read(b"\xff") == QueueOptions()
