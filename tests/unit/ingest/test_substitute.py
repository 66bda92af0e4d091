"""What is delivered in place of an event that was refused for good."""

from datetime import UTC, datetime

from hypothesis import given, settings
from hypothesis import strategies as st
from tocsin.escalation.v1.internal_service_pb2 import IncidentEvent, IncidentOpened, IncidentOpenedLink
from tocsin.type.v1.severity_pb2 import SEVERITY_CRITICAL
from tocsin_ingest.work.substitute import strip, substitute
from tocsin_kit.db.outbox import OutboxRow
from tocsin_kit.rpc.validation import validate

from tests.rounds import examples

text = st.text(max_size=300)


def row(payload: bytes) -> OutboxRow:
    return OutboxRow(1, "org", "key", "incident_event", payload, datetime(2026, 1, 1, tzinfo=UTC), 1)


def event(**fields: object) -> IncidentEvent:
    name = "incidents/" + "0" * 8 + "-0000-0000-0000-" + "0" * 12
    return IncidentEvent(event_id="1", org_id="org", incident=name, sequence=3, **fields)  # type: ignore[arg-type]


@settings(max_examples=examples(200), deadline=None)
@given(title=text, source=text, policy=text, labels=st.dictionaries(text, text, max_size=3), severity=st.integers(0, 9))
def test_an_opening_keeps_what_paging_needs_and_says_what_is_missing(
    title: str, source: str, policy: str, labels: dict[str, str], severity: int
) -> None:
    links = [IncidentOpenedLink(href=source, text=title)]
    opened = IncidentOpened(title=title, source=source, policy=policy, labels=labels, links=links)
    opened.severity = severity  # type: ignore[assignment]  # the wire holds any number
    payload = substitute(row(event(opened=opened).SerializeToString()), "refused")
    assert payload is not None
    less = IncidentEvent.FromString(payload)
    validate(less)
    assert (less.sequence, less.org_id) == (3, "org")
    assert less.opened.title
    assert less.opened.severity in (1, 2, 3, 4)
    assert less.opened.title.isascii()
    assert less.opened.title.isprintable()
    assert len(payload) < 2048
    assert ("labels" in less.opened.left_out) == bool(labels)
    assert "links" in less.opened.left_out
    assert substitute(row(payload), "refused again") is None, "nothing more can be left out"


def test_a_title_of_which_nothing_is_left_says_so() -> None:
    less = strip(event(opened=IncidentOpened(title="\N{SNOWMAN}", severity=SEVERITY_CRITICAL, alert_count=1)))
    assert less is not None
    assert less.opened.title == "an alert whose summary cannot be shown"


def test_other_events_keep_their_meaning() -> None:
    added = event()
    added.alerts_added.summary, added.alerts_added.alert_count = "\N{SNOWMAN}", 7
    added.alerts_added.severity = SEVERITY_CRITICAL
    less = strip(added)
    assert less is not None
    assert (less.alerts_added.summary, less.alerts_added.alert_count, less.alerts_added.severity) == ("?", 7, 1)
    over = event()
    over.resolved.actor = "users/ana"
    assert strip(over) is None
    over.resolved.actor = "\0"
    less = strip(over)
    assert less is not None
    assert less.resolved.actor == "?"


def test_what_cannot_be_read_has_no_substitute() -> None:
    assert substitute(row(b"\xff"), "refused") is None
