"""API keys, revocations and source ranges, apart from where they are kept."""

import asyncio
from collections.abc import Mapping, Sequence
from ipaddress import ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin_kit.auth import INTERNAL, Principal
from tocsin_kit.errors import TocsinError
from tocsin_kit.keys.api_keys import ApiKeys
from tocsin_kit.keys.record import PAGE, FoundKey, Numbered, Use
from tocsin_kit.keys.revocations import FORGET_MARGIN, Revocation, Revocations
from tocsin_kit.keys.secret import key_hash
from tocsin_kit.keys.serving import Follower
from tocsin_kit.keys.sources import address_of, is_among, parse_ranges

KEY, OTHER = "tak_" + "a" * 43, "tak_" + "b" * 43
FOUND = FoundKey("id-1", "org", "serviceAccounts/bot", frozenset({"a:read"}), ("192.0.2.0/24",), 5.0, None)
AWAY = TocsinError(ErrorReason.ERROR_REASON_SERVICE_UNAVAILABLE, "away")


class Record:
    """A record in memory, which can be away."""

    def __init__(self, *revocations: Revocation) -> None:
        self.keys = {key_hash(KEY): FOUND}
        self.numbered = [Numbered(number, each) for number, each in enumerate(revocations, 1)]
        self.settled = 0
        self.away = False
        self.lookups: list[int] = []
        self.uses: list[Use] = []
        self.asked: list[int] = []

    async def find_keys(self, hashes: Sequence[bytes]) -> Mapping[bytes, FoundKey]:
        self._check()
        self.lookups.append(len(hashes))
        return {digest: self.keys[digest] for digest in hashes if digest in self.keys}

    async def revocations_after(self, number: int) -> tuple[Sequence[Numbered], int]:
        self._check()
        self.asked.append(number)
        return [each for each in self.numbered if each.number > number][:PAGE], self.settled

    async def note_uses(self, uses: Sequence[Use]) -> None:
        self._check()
        self.uses += uses

    def _check(self) -> None:
        if self.away:
            raise AWAY


def token_revoked(token_id: str, org_id: str = "org", expire: float = 1e12) -> Revocation:
    return Revocation(org_id, token_id, "", 0.0, expire)


def subject_revoked(issued_before: float, subject: str = "users/ana", org_id: str = "org") -> Revocation:
    return Revocation(org_id, "", subject, issued_before, 1e12)


def principal(token_id: str = "", issued: float = 100.0, **changed: Any) -> Principal:
    fields: dict[str, Any] = {"org_id": "org", "subject": "users/ana", "scopes": frozenset(), **changed}
    return Principal(**fields, token_id=token_id, issued=issued)


def refused(known: Revocations, who: Principal) -> bool:
    try:
        known.check(who)
    except TocsinError as error:
        return error.reason == ErrorReason.ERROR_REASON_CREDENTIAL_INVALID and "revoked" in error.message
    return False


def test_a_token_is_refused_by_its_id_in_its_tenant() -> None:
    known = Revocations()
    known.add(token_revoked("t1"))
    known.add(token_revoked("t2", org_id="*"))
    assert refused(known, principal("t1"))
    assert refused(known, principal("t2"))
    assert not refused(known, principal("t1", org_id="other"))
    assert not refused(known, principal("t3"))
    assert not refused(known, principal(""))


@given(st.lists(st.integers(0, 100), min_size=1), st.integers(0, 100))
def test_a_subject_is_refused_up_to_the_latest_time(times: list[int], issued: int) -> None:
    known = Revocations()
    for time in times:
        known.add(subject_revoked(float(time)))
    assert refused(known, principal(issued=issued)) is (issued <= max(times))
    assert not refused(known, principal(issued=issued, subject="users/ben"))
    assert not refused(known, principal(issued=issued, org_id="*"))


def test_what_does_not_say_when_it_was_made_is_not_an_issued_credential() -> None:
    """An integration key ends by being rotated."""
    known = Revocations()
    known.add(subject_revoked(1e11))
    assert not refused(known, Principal("org", "users/ana", frozenset()))


def test_the_services_are_never_refused() -> None:
    known = Revocations()
    known.add(subject_revoked(1e11, "services/ingest", "*"))
    known.add(token_revoked("t", org_id="*"))
    service = principal("t", org_id="*", subject="services/ingest", scopes=frozenset({INTERNAL}))
    assert not refused(known, service)
    assert refused(known, principal("t", org_id="*", subject="services/ingest"))
    assert refused(known, principal("t", scopes=frozenset({INTERNAL}))), "a tenant's token may claim any scope"


def test_revocations_are_forgotten_when_what_they_refuse_has_expired() -> None:
    known = Revocations()
    for number in range(1000):
        known.add(token_revoked(str(number), expire=float(number)))
    known.forget_expired(500.0 + FORGET_MARGIN)
    assert len(known) == 500
    assert refused(known, principal("500"))


async def test_a_key_is_looked_up_once() -> None:
    record = Record()
    keys = ApiKeys(record)
    found = await asyncio.gather(*(keys.authenticate(KEY) for _ in range(50)))
    assert {each.subject for each in found if each} == {"serviceAccounts/bot"}
    first = found[0]
    assert first is not None
    assert (first.org_id, first.scopes, first.token_id, first.issued) == ("org", FOUND.scopes, "id-1", 5.0)
    assert record.lookups == [1]


async def test_what_is_no_key_costs_no_look_up() -> None:
    record = Record()
    keys = ApiKeys(record)
    assert await keys.authenticate("ey.a.b") is None
    for wrong in ("tak_", KEY + "a", KEY[:-1], KEY[:-1] + "."):
        with pytest.raises(TocsinError, match="never made"):
            await keys.authenticate(wrong)
    assert record.lookups == []


async def test_a_known_key_works_while_the_record_is_away_and_an_unknown_one_is_told_to_come_again() -> None:
    record = Record()
    keys = ApiKeys(record)
    await keys.authenticate(KEY)
    record.away = True
    assert await keys.authenticate(KEY)
    with pytest.raises(TocsinError) as caught:
        await keys.authenticate(OTHER)
    assert caught.value.reason == ErrorReason.ERROR_REASON_SERVICE_UNAVAILABLE
    record.away = False
    with pytest.raises(TocsinError, match="never made"):
        await keys.authenticate(OTHER)


async def test_a_key_ends_with_its_time_without_another_look() -> None:
    record = Record()
    record.keys[key_hash(KEY)] = FoundKey(**{**_fields(FOUND), "remaining": 0.0})
    with pytest.raises(TocsinError) as caught:
        await ApiKeys(record).authenticate(KEY)
    assert caught.value.reason == ErrorReason.ERROR_REASON_CREDENTIAL_EXPIRED


def _fields(found: FoundKey) -> dict[str, Any]:
    return {name: getattr(found, name) for name in FoundKey.__slots__}


async def test_uses_are_told_in_batches_and_again_when_they_could_not_be() -> None:
    record = Record()
    keys = ApiKeys(record)
    follower = Follower(record, Revocations(), keys)
    for _ in range(20):
        await keys.authenticate(KEY)
    record.away = True
    with pytest.raises(TocsinError):
        await follower.note_uses()
    record.away = False
    await follower.note_uses()
    await follower.note_uses()
    assert [(use.org_id, use.id) for use in record.uses] == [("org", "id-1")]


async def test_a_stop_tells_the_last_uses() -> None:
    record = Record()
    keys = ApiKeys(record)
    await keys.authenticate(KEY)
    stop = asyncio.Event()
    stop.set()
    await Follower(record, Revocations(), keys).run(stop)
    assert len(record.uses) == 1


@pytest.mark.parametrize("many", [0, 1, PAGE - 1, PAGE, PAGE + 1, 2 * PAGE + 5])
async def test_all_pages_of_revocations_are_read(many: int) -> None:
    record = Record(*(token_revoked(str(number)) for number in range(many)))
    known = Revocations()
    await Follower(record, known, ApiKeys(record)).round()
    assert len(known) == many


async def test_a_number_that_appears_after_a_greater_one_is_not_missed() -> None:
    record = Record(token_revoked("a"), token_revoked("late"), token_revoked("c"))
    late = record.numbered.pop(1)
    known = Revocations()
    follower = Follower(record, known, ApiKeys(record))
    record.settled = 1
    await follower.round()
    record.numbered.insert(1, late)
    record.settled = 3
    await follower.round()
    await follower.round()
    assert refused(known, principal("late"))
    assert record.asked == [0, 1, 3]


async def test_what_is_known_stays_true_while_the_record_is_away() -> None:
    record = Record(token_revoked("a"))
    known = Revocations()
    follower = Follower(record, known, ApiKeys(record))
    await follower.round()
    record.away = True
    with pytest.raises(TocsinError):
        await follower.round()
    assert refused(known, principal("a"))
    await follower.check()


@pytest.mark.parametrize(
    ("peer", "inside"),
    [
        ("ipv4:192.0.2.7:5000", True),
        ("192.0.2.255", True),
        ("ipv4:192.0.3.0:5000", False),
        ("ipv6:%5B::ffff:192.0.2.1%5D:5000", True),
        ("ipv6:%5B2001:db8::1%5D:5000", True),
        ("ipv6:[2001:db9::1]:5000", False),
        ("2001:db8::1", True),
        ("unix:/tmp/socket", False),
        ("unix:", False),
        ("", False),
    ],
)
def test_the_address_that_counts_is_that_of_the_connection(peer: str, inside: bool) -> None:
    ranges = parse_ranges(["192.0.2.0/24", "2001:db8::/32"], "ranges")
    assert is_among(ranges, address_of(peer)) is inside


@given(st.ip_addresses(), st.integers(0, 128))
def test_a_range_holds_its_own_address(address: Any, bits: int) -> None:
    bits = min(bits, address.max_prefixlen)
    network = ip_network((address, bits), strict=False)
    if getattr(network.network_address, "ipv4_mapped", None) is not None:
        return
    [parsed] = parse_ranges([str(network)], "ranges")
    assert parsed == network
    mapped = getattr(address, "ipv4_mapped", None)
    assert is_among((parsed,), address_of(str(address))) is (mapped is None)
