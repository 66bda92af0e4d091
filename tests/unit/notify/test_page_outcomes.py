"""What escalation is told of pages that were sent with one message."""

import uuid
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from tocsin.escalation.v1.internal_service_pb2 import PageOutcome
from tocsin_notify.app.delivery import page_outcomes
from tocsin_notify.domain.page import Channel
from tocsin_notify.store.pages.bundles import BundledPage

SENT = uuid.uuid4()


class Counted(list[BundledPage]):
    """Counts how often it is read."""

    read = 0

    def __iter__(self) -> Iterator[BundledPage]:
        self.read += 1
        return super().__iter__()


def member(incident: uuid.UUID, *, stopped: str | None = None) -> BundledPage:
    now = datetime(2026, 1, 5, tzinfo=UTC)
    return BundledPage(SENT, uuid.uuid4(), "users/ana", incident, 1, "new_incident", b"", now, "low", stopped)


@pytest.mark.parametrize(
    "told",
    [
        lambda pages: page_outcomes.sent_together("acme", pages, SENT, Channel.WEBHOOK, 1),
        lambda pages: page_outcomes.failed_together("acme", pages, "gone", Channel.WEBHOOK, undelivered=False),
        lambda pages: page_outcomes.delayed_together("acme", pages, SENT, "away", Channel.WEBHOOK),
    ],
    ids=["sent", "failed", "delayed"],
)
def test_pages_of_one_message_are_read_a_few_times_however_many_they_are(
    told: Callable[[Sequence[Any]], Sequence[PageOutcome]],
) -> None:
    """It takes hundreds, and pages of others wait for this turn of the loop."""
    twice = uuid.uuid4()
    pages = Counted([member(twice), member(twice), member(uuid.uuid4(), stopped="resolved")])
    pages += [member(uuid.uuid4()) for _ in range(20)]
    outcomes = told(pages)
    assert len(outcomes) == 22
    assert {each.reason.partition(": ")[0] for each in outcomes} == {"in one message for 21 pages"}
    assert pages.read <= 2
