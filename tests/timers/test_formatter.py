"""The wire format: what goes in comes out, and nothing unreadable is taken for a message."""

import subprocess
import sys
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st
from taskiq.message import TaskiqMessage
from tocsin_timers import MessageUnreadable, ProtobufFormatter
from tocsin_timers.v1.envelope_pb2 import Envelope

FORMATTER = ProtobufFormatter()

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.builds(Timestamp, seconds=st.integers(0, 2**40)),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


def message(*args: Any, **kwargs: Any) -> TaskiqMessage:
    return TaskiqMessage(
        task_id="id",
        task_name="task",
        labels={"n": "5", "s": "x"},
        labels_types={"n": 2},
        args=list(args),
        kwargs=kwargs,
    )


@given(st.lists(values, max_size=4), st.dictionaries(st.text(max_size=5), values, max_size=4))
def test_arguments_keep_kind_and_value(args: list[Any], kwargs: dict[str, Any]) -> None:
    read = FORMATTER.loads(FORMATTER.dumps(message(*args, **kwargs)).message)
    assert (read.args, read.kwargs) == (args, kwargs)
    assert [type(argument) for argument in read.args] == [type(argument) for argument in args]


def test_labels_keep_their_kinds_through_two_journeys() -> None:
    read = FORMATTER.loads(FORMATTER.dumps(message()).message)
    read.parse_labels()
    assert read.labels == {"n": 5, "s": "x"}
    again = FORMATTER.loads(FORMATTER.dumps(read).message)
    again.parse_labels()
    assert again.labels == {"n": 5, "s": "x"}


def test_a_message_argument_arrives_as_the_same_message() -> None:
    sent = Duration(seconds=3, nanos=7)
    [arrived] = FORMATTER.loads(FORMATTER.dumps(message(sent)).message).args
    assert arrived == sent
    assert type(arrived) is Duration


def test_what_pydantic_can_write_travels_as_json() -> None:
    moment = datetime(2026, 1, 2, tzinfo=UTC)
    name = uuid.UUID(int=7)
    assert FORMATTER.loads(FORMATTER.dumps(message(moment, name)).message).args == ["2026-01-02T00:00:00Z", str(name)]


@pytest.mark.parametrize("argument", [2**63, object(), {1: "a"}])
def test_what_cannot_travel_is_refused_at_once(argument: object) -> None:
    with pytest.raises(TypeError):
        FORMATTER.dumps(message(argument))


def test_unreadable_bytes_raise() -> None:
    for data in (b"", b"\xff\xff\xff", b"not a message at all"):
        with pytest.raises(MessageUnreadable):
            FORMATTER.loads(data)


def test_an_unknown_message_type_raises_and_names_it() -> None:
    envelope = Envelope(task_name="task")
    envelope.args.add().message.type = "some.other.Message"
    with pytest.raises(MessageUnreadable, match=r"some\.other\.Message"):
        FORMATTER.loads(envelope.SerializeToString())


def test_the_generated_code_is_that_of_the_proto(tmp_path: Path) -> None:
    library = Path(__file__).resolve().parents[2] / "libs" / "timers"
    subprocess.run([sys.executable, str(library / "generate.py"), str(tmp_path)], check=True)
    for name in ("envelope_pb2.py", "envelope_pb2.pyi"):
        there = library / "tocsin_timers" / "v1" / name
        assert (tmp_path / "tocsin_timers" / "v1" / name).read_text() == there.read_text(), f"run {library}/generate.py"
