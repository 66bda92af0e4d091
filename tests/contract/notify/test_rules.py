"""Notification rules through a real socket: replaced as a whole, and what is refused."""

import uuid

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from tocsin.notify.v1 import contact_service_pb2 as pb
from tocsin.notify.v1 import notification_pb2

from tests.contract.notify.caller import ANA, Caller, Door, email, refused, webhook
from tests.store.notify.support import new_org


async def test_rules_are_replaced_as_a_whole(visitor: Caller) -> None:
    mail, hook = await visitor.create(email()), await visitor.create(webhook())
    empty = (await visitor.GetNotificationRules(pb.GetNotificationRulesRequest(user=ANA))).notification_rules
    assert (list(empty.rules), empty.user) == ([], ANA)
    rules = [
        pb.NotificationRule(urgency=notification_pb2.URGENCY_HIGH, contact_method=hook.name, delay=Duration(seconds=0)),
        pb.NotificationRule(
            urgency=notification_pb2.URGENCY_HIGH, contact_method=mail.name, delay=Duration(seconds=90)
        ),
    ]
    given = pb.NotificationRules(user=ANA, rules=rules, etag=empty.etag)
    request = pb.UpdateNotificationRulesRequest(notification_rules=given)
    written = (await visitor.UpdateNotificationRules(request)).notification_rules
    assert list(written.rules) == rules
    assert (await refused(visitor.UpdateNotificationRules(request))).reason_name == "ETAG_MISMATCH"
    await visitor.DeleteContactMethod(pb.DeleteContactMethodRequest(name=mail.name))
    read = (await visitor.GetNotificationRules(pb.GetNotificationRulesRequest(user=ANA))).notification_rules
    assert list(read.rules) == rules[:1], "the rules of a deleted method go with it"
    assert read.etag != written.etag


async def test_rules_name_ones_own_methods_only(door: Door, visitor: Caller) -> None:
    theirs = await visitor.create(pb.ContactMethod(user="users/bob", email=pb.EmailContact(address="bob@example.com")))
    foreign = await Caller(door.notify, new_org()).create(email())

    def rules(name: str) -> pb.UpdateNotificationRulesRequest:
        rule = pb.NotificationRule(urgency=notification_pb2.URGENCY_LOW, contact_method=name, delay=Duration(seconds=1))
        return pb.UpdateNotificationRulesRequest(notification_rules=pb.NotificationRules(user=ANA, rules=[rule]))

    error = await refused(visitor.UpdateNotificationRules(rules(theirs.name)))
    assert error.fields[0].field == "notification_rules.rules[0].contact_method"
    error = await refused(visitor.UpdateNotificationRules(rules(foreign.name)))
    assert (error.reason_name, error.code) == ("CONTACT_METHOD_NOT_FOUND", grpc.StatusCode.NOT_FOUND)


@pytest.mark.parametrize(
    ("rule", "field"),
    [
        (pb.NotificationRule(contact_method=f"contactMethods/{uuid.uuid4()}"), "urgency"),
        (pb.NotificationRule(urgency=7, contact_method=f"contactMethods/{uuid.uuid4()}"), "urgency"),  # type: ignore[arg-type]
        (pb.NotificationRule(urgency=notification_pb2.URGENCY_HIGH, contact_method="x"), "contact_method"),
        (
            pb.NotificationRule(
                urgency=notification_pb2.URGENCY_HIGH,
                contact_method=f"contactMethods/{uuid.uuid4()}",
                delay=Duration(seconds=86_401),
            ),
            "delay",
        ),
        (
            pb.NotificationRule(
                urgency=notification_pb2.URGENCY_HIGH,
                contact_method=f"contactMethods/{uuid.uuid4()}",
                delay=Duration(seconds=-1),
            ),
            "delay",
        ),
    ],
)
async def test_bad_rules(visitor: Caller, rule: pb.NotificationRule, field: str) -> None:
    given = pb.NotificationRules(user=ANA, rules=[rule])
    error = await refused(visitor.UpdateNotificationRules(pb.UpdateNotificationRulesRequest(notification_rules=given)))
    assert f"notification_rules.rules[0].{field}" in {violation.field for violation in error.fields}
