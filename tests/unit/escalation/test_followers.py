"""What users hear who follow an incident."""

from dataclasses import replace

from tocsin.notify.v1.notification_pb2 import CHANNEL_EMAIL, NotificationJob
from tocsin_escalation.app.incidents.followers import messages
from tocsin_escalation.domain.events import Acknowledged, Noted, OutcomeKind

from tests.unit.escalation.people import Story


def jobs(story: Story, **followers: str) -> dict[str, NotificationJob]:
    """The messages about the newest event."""
    run = replace(story.run, followers=followers)
    rows = messages([(run, note) for note in story.decisions[-1].notes], story.now)
    return {(job := NotificationJob.FromString(payload)).user: job for _, _, _, payload, _ in rows}


def test_what_happens_in_one_step_is_one_message_through_the_channel_that_was_chosen() -> None:
    story = Story()
    story.passes(5)
    story.timer_fires()
    found = jobs(story, dora="email", ana="")
    assert found.keys() == {"users/dora", "users/ana"}
    assert found["users/dora"].channel_override == CHANNEL_EMAIL
    assert (found["users/dora"].title, found["users/dora"].text) == (
        "db down",
        "level 2: paging users/ben, users/cem",
    )
    assert not found["users/dora"].incident, "an acknowledge must not stop the news of it"


def test_no_user_hears_what_they_did_or_that_they_are_paged_and_receipts_are_no_news() -> None:
    story = Story()
    assert jobs(story, ana="", ben="").keys() == {"users/ben"}
    story.page_ends("ana", OutcomeKind.SENT)
    assert jobs(story, ben="") == {}
    story.take(Noted("users/ben", "looking"))
    assert jobs(story, ana="", ben="").keys() == {"users/ana"}
    story.take(Acknowledged("users/ana"))
    assert jobs(story, ana="", ben="").keys() == {"users/ben"}
    assert jobs(story) == {}
