"""A violation of a pattern says what to write."""

import re
from collections import Counter
from pathlib import Path

import pytest
from tocsin.escalation.v1 import schedule_pb2
from tocsin_kit.errors import TocsinError
from tocsin_kit.rpc.pattern_words import in_words
from tocsin_kit.rpc.validation import validate

PROTOS = Path(__file__).parents[3] / "protos"


def told(layer: schedule_pb2.Layer) -> dict[str, str]:
    with pytest.raises(TocsinError) as error:
        validate(layer, "layer")
    return {field.field: field.description for field in error.value.fields}


def test_a_time_with_an_offset_and_a_user_by_an_address() -> None:
    layer = schedule_pb2.Layer(
        layer_id="week",
        turns=[schedule_pb2.Turn(unit=schedule_pb2.TURN_UNIT_WEEK, count=1)],
        start="2026-01-05T09:00:00+01:00",
        line_up=[schedule_pb2.LineUpEntry(users=["ana@example.com"])],
        windows=[schedule_pb2.Window(days=[schedule_pb2.WEEKDAY_MONDAY], start="9:00", end="25:00")],
    )
    assert told(layer) == {
        "layer.start": "must be a local time without seconds and without an offset, as `2026-01-05T09:00`",
        "layer.line_up[0].users[0]": "must be `users/` and an id of lower-case letters, digits, `.`, `_` and `-`, at most 63, "
        "the first a letter or a digit",
        "layer.windows[0].start": "must be a time of day, as `09:00`",
        "layer.windows[0].end": "must be a time of day, as `17:00`, or `24:00`",
    }


def test_the_patterns_of_which_there_are_many_have_words() -> None:
    text = "".join(path.read_text() for path in PROTOS.rglob("*.proto"))
    counted = Counter(re.findall(r'pattern(?:: | = )"([^"]+)"', text))
    many = {pattern for pattern, count in counted.items() if count > 5}
    assert len(many) > 5
    silent = {pattern for pattern in many if "regex" in in_words(f"does not match regex pattern `{pattern}`")}
    assert not silent - {
        "^[A-Za-z -]*$",
        "^(?i:https?)://",
        r"^queues/[a-z0-9][a-z0-9._-]{0,62}/tasks/[a-zA-Z]{1,32}[.][0-9a-f-]{36}$",
    }


def test_other_messages_stay_as_they_are() -> None:
    for message in ("", "must not be empty", "does not match regex pattern `^[A-Z]{2}$`"):
        assert in_words(message) == message
