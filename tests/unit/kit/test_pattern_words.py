"""A violation of a pattern says what to write."""

import re
from pathlib import Path

import pytest
from google.protobuf.message import Message
from tocsin.escalation.v1 import incident_service_pb2, policy_service_pb2, schedule_pb2
from tocsin.ingest.v1 import alert_pb2, silence_service_pb2
from tocsin.notify.v1 import contact_service_pb2, message_service_pb2, template_service_pb2
from tocsin.queue.v1 import queue_service_pb2
from tocsin_kit.errors import TocsinError
from tocsin_kit.rpc.pattern_words import in_words
from tocsin_kit.rpc.validation import validate

PROTOS = Path(__file__).parents[3] / "protos"


def told(message: Message, prefix: str = "layer") -> dict[str, str]:
    with pytest.raises(TocsinError) as error:
        validate(message, prefix)
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


def test_every_pattern_of_the_contracts_has_words() -> None:
    text = "".join(path.read_text() for path in (PROTOS / "tocsin").rglob("*.proto"))
    patterns = set(re.findall(r'pattern(?:: | = )"([^"]+)"', text))
    assert len(patterns) > 30
    assert {
        pattern for pattern in patterns if "regex" in in_words(f"does not match regex pattern `{pattern}`")
    } == set()


def test_two_kinds_of_names_and_all_of_one_kind() -> None:
    said = in_words("does not match regex pattern `^(teams|schedules)/[a-z0-9][a-z0-9._-]{0,62}$`")
    assert said.startswith("must be `teams/` or `schedules/` and an id of lower-case letters")
    assert in_words("does not match regex pattern `^users/([a-z0-9][a-z0-9._-]{0,62}|[*])$`").endswith("or `users/*`")


def test_what_is_empty_is_told_so() -> None:
    assert told(message_service_pb2.BatchSendMessagesRequest(), "")["messages"] == "must have at least one entry"
    assert told(policy_service_pb2.CreatePolicyRequest(policy_id="first", policy=policy_service_pb2.Policy()), "")[
        "policy.display_name"
    ] == ("must not be empty")


def test_other_messages_stay_as_they_are() -> None:
    for message in ("", "must not be empty", "does not match regex pattern `^[QX]{7}$`"):
        assert in_words(message) == message


def test_values_and_fields_are_told_by_name() -> None:
    message = message_service_pb2.Message(text="Lunch.", address=message_service_pb2.Address(address="ana@example.com"))
    assert told(message, "message")["message.address.channel"].startswith(
        "must be one of CHANNEL_EMAIL, CHANNEL_WEBHOOK, "
    )
    nobody = message_service_pb2.BatchSendMessagesRequest(messages=[message_service_pb2.Message(text="Lunch.")])
    assert told(nobody, "")["messages[0].to"] == "must be set: one of user, address, team, schedule"
    unknown = message_service_pb2.Message(text="Lunch.", user="users/ana", urgency=9)  # type: ignore[arg-type]
    assert told(unknown, "message")["message.urgency"] == "must be one of URGENCY_HIGH, URGENCY_LOW"
    template = template_service_pb2.Template(text="x", language="fr")
    assert "NOTIFICATION_TYPE_VERIFICATION" not in told(template, "")["type"]
    assert told(template, "")["language"] == "must be `en` or `de`, or empty"
    settings = contact_service_pb2.NotificationSettings(language="LANGUAGE_GERMAN")
    assert told(settings, "")["language"] == "must be `en` or `de`, or empty"
    assert told(queue_service_pb2.GetTaskRequest(name="queues/notify/tasks/7"), "")["name"].startswith(
        "must be the name of a task"
    )


def test_a_rule_about_a_whole_message_keeps_its_words() -> None:
    rules = {
        "silence": (silence_service_pb2.Silence(reason="x"), "needs a matcher or an integration"),
        "alert": (alert_pb2.AlertInput(dedup_key="k"), "summary is required"),
        "": (incident_service_pb2.UpdateIncidentRequest(), "title or severity is required"),
    }
    for prefix, (message, said) in rules.items():
        assert any(words.startswith(said) for words in told(message, prefix).values()), told(message, prefix)
