"""Each channel is a channel everywhere: in the registry, in the contract, and in its own words."""

import inspect
from pathlib import Path

import pytest
from tocsin.escalation.v1.incident_service_pb2 import AcknowledgeIncidentRequest
from tocsin.notify.v1 import contact_service_pb2 as contact_pb
from tocsin.notify.v1 import notification_pb2 as pb
from tocsin_kit.ids import new_id
from tocsin_kit.rpc.validation import validate
from tocsin_notify.app.answers.presses import Press
from tocsin_notify.app.delivery.receipts import AttemptName
from tocsin_notify.app.pages.jobs import CHANNELS
from tocsin_notify.channels import sms
from tocsin_notify.channels.registry import TYPES
from tocsin_notify.domain.action import Action
from tocsin_notify.domain.page import ONE_ACCOUNT, Channel
from tocsin_notify.domain.provider_rates import read_rates
from tocsin_notify.rpc.mapping import contact_to, given_from
from tocsin_notify.store.contacts.contacts import Contact


def test_the_contract_and_the_registry_know_the_same_channels() -> None:
    assert set(TYPES) == set(Channel)
    assert set(CHANNELS) == set(pb.Channel.values()) - {pb.CHANNEL_UNSPECIFIED}
    kinds = contact_pb.ContactMethod.DESCRIPTOR.oneofs_by_name["kind"].fields
    assert {field.name for field in kinds} == set(Channel)


@pytest.mark.parametrize("channel", Channel)
def test_a_method_reads_back_as_it_was_kept(channel: Channel) -> None:
    row = TYPES[channel]
    address = "where it leads" if row.address_field else ""
    key_id = "k1" if row.signs else ""
    contact = Contact(new_id(), "users/ana", "phone", channel, address, b"closed", key_id, disabled=True)
    message = contact_to(contact)
    assert message.WhichOneof("kind") == channel
    given = given_from(message)
    assert (given.channel, given.address, given.key_id) == (channel, address, key_id)
    assert given.secret == "", "a secret is never read back"
    fields = getattr(message, channel).DESCRIPTOR.fields_by_name
    known = {row.address_field, row.hidden_field, "key_id" if row.signs else ""} - {""}
    assert set(fields) == known, "each field of the contract is kept somewhere"


def test_what_shares_an_account_of_the_operator_is_what_no_tenant_names_a_host_of() -> None:
    assert {row.channel for row in TYPES.values() if not row.hosts} - {Channel.CONSOLE} == set(ONE_ACCOUNT)


def test_rates_of_providers_are_read_and_refused() -> None:
    assert read_rates("") == {}
    assert read_rates("telegram=30, sms=10") == {Channel.TELEGRAM: 30, Channel.SMS: 10}
    for wrong in ("sms", "sms=0", "sms=-1", "sms=1.5", "webhook=5", "fax=1", "sms=10;voice=1", "sms=1234567"):
        with pytest.raises(ValueError, match="must be pairs of channel and calls per second"):
            read_rates(wrong)


@pytest.mark.parametrize("channel", Channel)
def test_escalation_takes_how_an_answer_came_by_any_channel(channel: Channel) -> None:
    press = Press(AttemptName("acme", new_id(), 1), Action.ACKNOWLEDGE, str(channel), "button")
    validate(AcknowledgeIncidentRequest(name=f"incidents/{new_id()}", via=press.in_words))


def test_contributing_shows_a_channel_as_it_is() -> None:
    source = inspect.getsource(sms)
    shown = (Path(__file__).parents[3] / "CONTRIBUTING.md").read_text()
    assert source[source.index("TYPE: Final") :] in shown
