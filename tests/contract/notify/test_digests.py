"""DigestService: what it refuses, whose a digest is, and what a change of one needs."""

import uuid
from typing import Any

import grpc
import pytest
from tocsin.escalation.v1.internal_service_pb2 import SummarizeForDigestsResponse
from tocsin.notify.v1 import digest_pb2
from tocsin.notify.v1 import digest_service_pb2 as pb
from tocsin.type.v1 import weekday_pb2
from tocsin_kit.roles import ROLES

from tests.contract.notify.caller import ANA, Door, refused
from tests.store.notify.support import bearer, new_org

DAILY, WEEKLY = digest_pb2.DIGEST_FREQUENCY_DAILY, digest_pb2.DIGEST_FREQUENCY_WEEKLY
MONDAY = weekday_pb2.WEEKDAY_MONDAY


def digest(**fields: Any) -> pb.Digest:
    """A good one, but for the fields given."""
    return pb.Digest(**{"user": ANA, "frequency": DAILY, "hour": 8, "time_zone": "Europe/Berlin", **fields})


BAD: list[tuple[str, dict[str, Any], str]] = [
    ("no user", {"user": ""}, "digest.user"),
    ("no frequency", {"frequency": 0}, "digest.frequency"),
    ("the hour after the last", {"hour": 24}, "digest.hour"),
    ("no zone", {"time_zone": ""}, "digest.time_zone"),
    ("an unknown zone", {"time_zone": "Mars/Olympus"}, "digest.time_zone"),
    ("a weekly one without a day", {"frequency": WEEKLY}, "digest.weekday"),
    ("a daily one with a day", {"weekday": MONDAY}, "digest.weekday"),
    ("no contact method", {"contact_method": "contactMethods/x"}, "digest.contact_method"),
]


@pytest.mark.parametrize(("fields", "field"), [each[1:] for each in BAD], ids=[each[0] for each in BAD])
async def test_a_digest_that_cannot_be_names_the_field(door: Door, fields: dict[str, Any], field: str) -> None:
    request = pb.UpdateDigestRequest(digest=digest(**fields))
    error = await refused(door.notify.digests.UpdateDigest(request, metadata=bearer(new_org())))
    assert (error.code, error.reason_name) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
    assert [violation.field for violation in error.fields] == [field]


async def test_it_goes_to_the_users_own_contact_method_and_to_no_phone(door: Door) -> None:
    org = new_org()
    hers, his = (
        await door.world.method(org, email="ana@example.com"),
        await door.world.method(org, "users/ben", email="b@x.com"),
    )
    phone = await door.world.method(org, voice="+4915112345678")

    async def chosen(method: uuid.UUID, caller: str = org) -> Any:
        request = pb.UpdateDigestRequest(digest=digest(contact_method=f"contactMethods/{method}"))
        return await door.notify.digests.UpdateDigest(request, metadata=bearer(caller))

    assert (await chosen(hers)).digest.contact_method == f"contactMethods/{hers}"
    for method, why in ((his, "must be one of users/ana's own"), (phone, "must not be a call")):
        error = await refused(chosen(method))
        [violation] = error.fields
        assert (violation.field, violation.description.startswith(why)) == ("digest.contact_method", True)
    for method, caller in ((uuid.uuid4(), org), (hers, new_org())):
        assert (await refused(chosen(method, caller))).reason_name == "CONTACT_METHOD_NOT_FOUND"


async def test_a_digest_for_a_user_who_does_not_exist_is_refused(door: Door) -> None:
    """It would be made for ever, and each time left out."""
    org, escalation = new_org(), door.world.escalation
    mine = bearer(org)

    async def choose(**fields: Any) -> Any:
        return await door.notify.digests.UpdateDigest(pb.UpdateDigestRequest(digest=digest(**fields)), metadata=mine)

    escalation.digests[org] = SummarizeForDigestsResponse()
    error = await refused(choose())
    assert (error.code, error.reason_name) == (grpc.StatusCode.NOT_FOUND, "USER_NOT_FOUND")
    assert error.metadata["name"] == ANA
    escalation.tells_nothing_of.add(org)
    assert (await refused(choose())).reason_name == "SERVICE_UNAVAILABLE", "nobody can say whether the user exists"
    listed = await door.notify.digests.ListDigests(pb.ListDigestsRequest(), metadata=mine)
    assert list(listed.digests) == []
    del escalation.digests[org]
    escalation.tells_nothing_of.remove(org)
    assert (await choose()).digest.hour == 8
    escalation.tells_nothing_of.add(org)
    assert (await choose(hour=9)).digest.hour == 9, "one that is there is changed whoever is away"


async def test_a_user_may_choose_for_themselves_and_for_no_other(door: Door) -> None:
    org = new_org()
    mine = bearer(org, sorted(ROLES["responder"]), ANA)
    assert "contacts:self" in ROLES["responder"]
    await door.notify.digests.UpdateDigest(pb.UpdateDigestRequest(digest=digest()), metadata=mine)
    of_ben = pb.UpdateDigestRequest(digest=digest(user="users/ben"))
    end_of_ben = pb.DeleteDigestRequest(user="users/ben", frequency=DAILY)
    for call in (
        door.notify.digests.UpdateDigest(of_ben, metadata=mine),
        door.notify.digests.DeleteDigest(end_of_ben, metadata=mine),
    ):
        assert (await refused(call)).reason_name == "SCOPE_MISSING"


async def test_it_is_its_tenants_alone_is_replaced_as_it_was_read_and_ends_for_good(door: Door) -> None:
    mine, theirs = bearer(new_org()), bearer(new_org())
    weekly = digest(frequency=WEEKLY, weekday=MONDAY)
    for each in (digest(), weekly, digest(user="users/ben")):
        await door.notify.digests.UpdateDigest(pb.UpdateDigestRequest(digest=each), metadata=mine)

    async def listed(metadata: Any, **fields: Any) -> list[pb.Digest]:
        return list((await door.notify.digests.ListDigests(pb.ListDigestsRequest(**fields), metadata=metadata)).digests)

    assert [(each.user, each.frequency) for each in await listed(mine)] == [
        (ANA, DAILY),
        (ANA, WEEKLY),
        ("users/ben", DAILY),
    ]
    assert await listed(theirs) == []
    daily, _ = await listed(mine, user=ANA)
    for hour in (9, 10):
        request = pb.UpdateDigestRequest(digest=digest(hour=hour, etag=daily.etag))
        call = door.notify.digests.UpdateDigest(request, metadata=mine)
        if hour == 9:
            assert (await call).digest.next_time != daily.next_time
        else:
            assert (await refused(call)).reason_name == "ETAG_MISMATCH"
    end = pb.DeleteDigestRequest(user=ANA, frequency=DAILY, request_id=str(uuid.uuid4()))
    assert (await refused(door.notify.digests.DeleteDigest(end, metadata=theirs))).reason_name == "DIGEST_NOT_FOUND"
    for _ in range(2):
        await door.notify.digests.DeleteDigest(end, metadata=mine)
    again = pb.DeleteDigestRequest(user=ANA, frequency=DAILY)
    assert (await refused(door.notify.digests.DeleteDigest(again, metadata=mine))).reason_name == "DIGEST_NOT_FOUND"
    shown = pb.PreviewDigestRequest(user=ANA, frequency=DAILY)
    assert (await refused(door.notify.digests.PreviewDigest(shown, metadata=mine))).reason_name == "DIGEST_NOT_FOUND"
