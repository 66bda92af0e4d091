"""Messages that are sure to keep the rules: protovalidate finds nothing in them, for any content."""

import random
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import protovalidate
import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from tocsin.ingest.v1.alert_pb2 import AlertInput, Link
from tocsin.ingest.v1.alert_service_pb2 import GetAlertRequest, SendAlertRequest, SendAlertsRequest
from tocsin_ingest.app.alerts.known_rules import register_rules
from tocsin_kit.rpc.bounds import is_map, rules_of
from tocsin_kit.rpc.precheck import precheck_of
from tocsin_kit.rpc.validation import is_valid, validate

from tests.abuse.messages import Messages
from tests.contract.test_protos import METHODS

_validator = protovalidate.Validator()
_ROUNDS = 12
"""For each request type; each round changes one message in a few places."""


@pytest.fixture(autouse=True)
def taught() -> None:
    register_rules()


def broken(message: Message) -> bool:
    return bool(_validator.collect_violations(message, fail_fast=True))


def changes(message: Any, chance: random.Random) -> Iterator[Callable[[], object]]:
    """Ways to take the message to an edge of its rules and over it, at every depth."""
    for field in message.DESCRIPTOR.fields:
        name, rules = field.name, rules_of(field)
        yield partial(message.ClearField, name)
        if is_map(field):
            entries = getattr(message, name)
            if field.message_type.fields_by_name["value"].type == FieldDescriptor.TYPE_STRING:
                for key in edges(rules.map.keys, "k", chance):
                    for value in edges(rules.map.values, "v", chance):
                        yield partial(entries.__setitem__, key, value)
                many = int(rules.map.max_pairs) + chance.choice((0, 1))
                if many < 100:
                    yield partial(entries.update, {f"k{number}": "v" for number in range(many)})
        elif field.is_repeated:
            values = getattr(message, name)
            if len(values):
                yield partial(values.extend, [values[0]] * (int(rules.repeated.max_items) or 3))
            if field.message_type is not None:
                for each in values:
                    yield from changes(each, chance)
            elif field.type == FieldDescriptor.TYPE_STRING:
                for text in edges(rules.repeated.items, "x", chance):
                    yield partial(values.append, text)
            elif field.type == FieldDescriptor.TYPE_ENUM:
                yield partial(values.append, chance.choice((0, 1, 99)))
        elif field.message_type is not None:
            yield getattr(message, name).SetInParent
            if message.HasField(name):
                yield from changes(getattr(message, name), chance)
        elif field.type == FieldDescriptor.TYPE_STRING:
            for text in edges(rules, getattr(message, name), chance):
                yield partial(setattr, message, name, text)
        elif field.type == FieldDescriptor.TYPE_BYTES:
            yield partial(setattr, message, name, b"x" * (int(rules.bytes.max_len) + chance.choice((0, 1))))
        elif field.type == FieldDescriptor.TYPE_ENUM:
            yield partial(setattr, message, name, chance.choice((0, 1, 2, 99, -1)))
        elif field.type == FieldDescriptor.TYPE_INT32:
            limits = [getattr(rules.int32, each) for each in ("lt", "lte", "gt", "gte")]
            yield partial(setattr, message, name, chance.choice(limits) + chance.choice((-1, 0, 1)))


def edges(rules: Any, given: str, chance: random.Random) -> list[str]:
    """Texts at the edges of the rules: of the longest and shortest lengths, and some that only look like the pattern."""
    most, least = int(rules.string.max_len or rules.string.max_bytes), int(rules.string.min_len)
    texts = ["", given + "\n", "\n" + given, given.upper(), given + "/x", "x" * (least - 1), "ß" * max(least, 1)]
    if most < 5000:
        texts += ["x" * most, "x" * (most + 1), "\U0001f4a3" * most, "\U0001f4a3" * (most // 4 + 1)]
    return chance.sample(texts, 3)


def generated(descriptor: Descriptor) -> Iterator[Message]:
    for seed in range(_ROUNDS):
        chance = random.Random(seed)
        yield Messages(seed, odd=0.3).message(descriptor)
        message = Messages(seed).message(descriptor)
        yield message
        for _ in range(chance.choice((1, 1, 2, 5))):
            if ways := [*changes(message, chance)]:
                chance.choice(ways)()
            yield message


def test_what_is_sure_breaks_no_rule_in_any_request() -> None:
    sure = doubtful = valid = 0
    for descriptor in {method.input_type.full_name: method.input_type for method in METHODS}.values():
        judge = precheck_of(descriptor)
        for message in generated(descriptor):
            if judge(message, message.ByteSize()):
                sure += 1
                assert not broken(message), f"{descriptor.full_name}: {message}"
            else:
                doubtful += broken(message)
            valid += unchanged_if_valid(message)
    # Otherwise the messages show nothing.
    assert sure > 1000
    assert doubtful > 1000
    assert valid > 500


def unchanged_if_valid(message: Message) -> bool:
    """Whether it is valid at a glance; then all of its validation refuses and changes nothing."""
    message.DiscardUnknownFields()
    if not is_valid(message, message.SerializeToString()):
        return False
    before = message.SerializeToString(deterministic=True)
    validate(message)
    assert message.SerializeToString(deterministic=True) == before
    return True


def asked(action: Any = 0, severity: Any = 0, request_id: str = "", **fields: Any) -> SendAlertRequest:
    return SendAlertRequest(request_id=request_id, alert=AlertInput(action=action, severity=severity, **fields))


@pytest.mark.parametrize(
    "message",
    [
        asked(dedup_key="k", summary="disk full", source="db1", labels={"team": "db"}),
        asked(summary="s", links=[Link(href="https://x", text="x")], severity=1),
        asked(request_id="019374ab-1234-7000-8000-0123456789ab", action=3, source="s"),
        asked(summary="s", details={"a": {"b": [1, "x"]}}),
        SendAlertsRequest(alerts=[SendAlertRequest()] * 1000),
        GetAlertRequest(name="alerts/019374ab-1234-7000-8000-0123456789ab"),
    ],
    ids=lambda message: type(message).__name__,
)
def test_ordinary_requests_are_sure(message: Message) -> None:
    """Or nothing is gained: the rules that the contract has are known here, those in words of its own included."""
    assert precheck_of(message.DESCRIPTOR)(message, message.ByteSize())
    assert not broken(message)


@pytest.mark.parametrize(
    "message",
    [
        SendAlertRequest(),
        SendAlertRequest(alert=AlertInput()),
        asked(action=2),
        asked(action=7, summary="s"),
        SendAlertRequest(alert=AlertInput(summary="s" * 1025)),
        SendAlertRequest(alert=AlertInput(summary="s", labels={"": "x"})),
        SendAlertRequest(alert=AlertInput(summary="s", labels={"x": "y" * 1025})),
        SendAlertRequest(alert=AlertInput(summary="s", links=[Link(href="ftp://x")])),
        SendAlertRequest(request_id="019374ab", alert=AlertInput(summary="s")),
        SendAlertRequest(integration="integrations/a\n", alert=AlertInput(summary="s")),
        SendAlertsRequest(),
        GetAlertRequest(name="alerts/019374ab-1234-7000-8000-0123456789ab\n"),
    ],
    ids=lambda message: type(message).__name__,
)
def test_what_breaks_a_rule_is_never_sure(message: Message) -> None:
    assert broken(message)
    assert not precheck_of(message.DESCRIPTOR)(message, message.ByteSize())


def test_a_type_that_contains_itself_is_read_to_its_end() -> None:
    for method in METHODS:
        precheck_of(method.input_type)(GetMessageClass(method.input_type)(), 0)
        precheck_of(method.output_type)(GetMessageClass(method.output_type)(), 0)
