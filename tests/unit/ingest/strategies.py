"""Sequences of messages over few keys, so that they meet."""

from dataclasses import dataclass

from hypothesis import strategies as st
from tocsin_ingest.domain.message import Action, Message
from tocsin_ingest.domain.severity import Severity

from tests.unit.ingest.model import message

_ACTIONS = st.sampled_from([Action.TRIGGER] * 4 + [Action.RESOLVE] * 2 + [Action.ACKNOWLEDGE, Action.NOTE])


@st.composite
def messages(draw: st.DrawFn) -> Message:
    """One message. The group may change from message to message, as it does when rules change."""
    return message(
        draw(st.sampled_from("abcd")),
        draw(_ACTIONS),
        group=draw(st.sampled_from(["", "", "g", "h"])),
        severity=draw(st.sampled_from([Severity.CRITICAL, Severity.ERROR, Severity.INFO])),
        suppress=draw(st.sampled_from([False, False, False, True])),
    )


batches = st.lists(st.lists(messages(), min_size=1, max_size=8), min_size=1, max_size=6)


@dataclass(frozen=True)
class Step:
    """What a sender says of an alert in a minute."""

    minute: int
    key: str
    action: Action


steps = st.lists(
    st.builds(
        Step,
        st.integers(0, 20),
        st.sampled_from("ab"),
        st.sampled_from([Action.TRIGGER, Action.TRIGGER, Action.RESOLVE]),
    ),
    max_size=12,
)
