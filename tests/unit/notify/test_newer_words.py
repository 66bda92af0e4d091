"""Rows that a newer version wrote are shown after a rollback to this one, with any words."""

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
from tocsin_notify.domain.message import Step
from tocsin_notify.domain.words import Word
from tocsin_notify.rpc import mapping, message_mapping, recurring_message_service, subscription_mapping
from tocsin_notify.store.contacts.contacts import Contact
from tocsin_notify.store.contacts.rules import RuleSet
from tocsin_notify.store.delivery.dead_letters import DeadLetterHead
from tocsin_notify.store.delivery.rows import Attempt, Shown
from tocsin_notify.store.events import event_deliveries
from tocsin_notify.store.events.event_deliveries import EventDelivery
from tocsin_notify.store.messages.messages import Message
from tocsin_notify.store.messages.recurring import Recurring

from tests.store.made_up import Maker


def newer(row: Any) -> Any:
    """The row with another word in each field that is text, and in those of the rows in it."""
    changes: dict[str, Any] = {}
    for field in dataclasses.fields(row):
        value = getattr(row, field.name)
        if isinstance(value, Word):
            changes[field.name] = type(value)("pigeon")
        elif isinstance(value, str):
            changes[field.name] = "pigeon"
        elif isinstance(value, list):
            changes[field.name] = [newer(each) for each in value]
    return dataclasses.replace(row, **changes)


SHOWN: dict[type, Callable[[Any], Any]] = {
    Shown: mapping.notification_to,
    Attempt: mapping.attempt_to,
    Contact: mapping.contact_to,
    RuleSet: mapping.rules_to,
    DeadLetterHead: mapping.dead_letter_to,
    Message: lambda row: message_mapping.message_to(row, [newer(Maker(0).value(Step))]),
    Recurring: recurring_message_service.recurring_to,
    EventDelivery: lambda row: subscription_mapping.delivery_to(row, [Maker(0).value(event_deliveries.Attempt)]),
}


@pytest.mark.parametrize("kind", SHOWN)
@pytest.mark.parametrize("number", range(3))
def test_a_row_of_a_newer_version_is_shown(kind: type, number: int) -> None:
    assert SHOWN[kind](newer(Maker(number).value(kind))).ByteSize()


def test_a_word_that_is_not_known_is_kept_and_equals_none_that_is() -> None:
    class Colour(Word):
        RED = "red"

    blue = Colour("blue")
    assert (str(blue), blue == Colour.RED, blue in {Colour.RED}, {Colour.RED: 1}.get(blue)) == (
        "blue",
        False,
        False,
        None,
    )
    assert Colour("red") is Colour.RED
    assert list(Colour) == [Colour.RED]
    with pytest.raises(ValueError, match="is not a valid"):
        Colour(7)  # type: ignore[arg-type]
