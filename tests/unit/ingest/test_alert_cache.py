"""What is remembered of alerts: bounded, by sender, and each sender's own."""

from datetime import UTC, datetime
from uuid import UUID

import pytest
from tocsin_ingest.app.alerts.alert_cache import AlertCache, cache_key
from tocsin_ingest.app.alerts.commit_batch import Entry
from tocsin_ingest.app.alerts.route_alert import NOTHING_STATED, Stated

from tests.unit.ingest.model import message

MARK = object()


def entry(key: str = "k", org: str = "acme", actor: str = "users/ana") -> Entry:
    return Entry(org, message(key, org=org, actor=actor))


def test_each_sender_has_its_own_alerts() -> None:
    remembered = AlertCache()
    mine = entry()
    remembered.put(b"x", mine, "integrations/a", MARK)
    found = remembered.of("acme", "users/ana").get(b"x")
    assert found is not None
    assert (found.entry, found.integration, found.mark) == (mine, "integrations/a", MARK)
    assert remembered.of("acme", "users/ben").get(b"x") is None
    assert remembered.of("other", "users/ana").get(b"x") is None
    assert remembered.of("acme", "users/ana").get(b"y") is None


def test_what_is_remembered_anew_takes_the_place_of_what_was() -> None:
    remembered = AlertCache()
    remembered.put(b"x", entry("old"), "", MARK)
    size = remembered.size
    remembered.put(b"x", entry("new"), "", MARK)
    assert remembered.size == size
    found = remembered.of("acme", "users/ana").get(b"x")
    assert found is not None
    assert found.entry.message.dedup_key == "new"


def test_an_alert_comes_first_once_and_again_when_many_others_have_come_since() -> None:
    remembered, keys = AlertCache(), [UUID(int=number) for number in range(20_001)]
    assert [remembered.is_first(key) for key in (keys[0], keys[1], keys[0])] == [True, True, False]
    assert all(remembered.is_first(key) for key in keys[2:])
    assert not remembered.is_first(keys[1])
    assert remembered.is_first(keys[0])
    assert len(remembered._seen) == 20_000


@pytest.mark.parametrize("length", [10, 10_000])
def test_it_takes_no_more_than_its_room(length: int) -> None:
    most = 500_000
    remembered = AlertCache(most)
    for number in range(2000):
        remembered.put(b"%06d" % number + b"x" * length, entry(), "", MARK)
        remembered.put(b"%06d" % number + b"x" * length, entry(actor=f"users/u{number % 97}"), "", MARK)
        assert remembered.size <= most
    cache = remembered.of("acme", "users/ana")
    assert cache.get(b"%06d" % 1999 + b"x" * length) is not None, "the newest stay"
    assert cache.get(b"%06d" % 0 + b"x" * length) is None, "the oldest leave"
    assert cache.size <= most // 2


def test_one_senders_new_alerts_leave_the_others_theirs() -> None:
    remembered = AlertCache(500_000)
    remembered.put(b"mine", entry(), "", MARK)
    for number in range(5000):
        remembered.put(b"%d" % number, entry(actor="users/loud"), "", MARK)
    assert remembered.of("acme", "users/ana").get(b"mine") is not None


def test_what_was_stated_beside_an_alert_tells_alerts_apart() -> None:
    began = datetime(2026, 1, 1, tzinfo=UTC)
    keys = [
        cache_key(b"x", stated)
        for stated in (
            NOTHING_STATED,
            Stated(labels={"a": "b"}),
            Stated(labels={"a": "c"}),
            Stated(started=began),
            Stated(ended=began),
            Stated(labels={}),
        )
    ]
    assert len(set(keys)) == len(keys)
    assert cache_key(b"x", Stated(labels={"a": "b"})) == keys[1]


def test_what_is_known_of_a_core_is_not_what_is_known_of_its_bytes() -> None:
    remembered = AlertCache()
    mine = entry()
    remembered.put_core(b"core", b"whole", mine, "", MARK, any_summary=True)
    cache = remembered.of("acme", "users/ana")
    assert cache.get(b"core") is None
    found = cache.find_core(b"core")
    assert found is not None
    assert found.newest == (b"whole", mine)
    remembered.put(b"core", entry("other"), "", MARK)
    assert cache.find_core(b"core") is found


def test_the_newest_words_take_no_more_than_their_room() -> None:
    most = 500_000
    remembered = AlertCache(most)
    cache = remembered.of("acme", "users/ana")
    for number in range(100):
        core = b"%d" % number
        remembered.put_core(core, core, entry(), "", MARK, any_summary=True)
    size = remembered.size
    for number in range(100):
        core = b"%d" % number
        known_core = cache.find_core(core)
        if known_core is None:
            continue  # it has left for another's words
        newest = entry()
        remembered.put_newest(core, known_core, b"x" * 20_000, newest)
        assert size < remembered.size <= most
        found = cache.find_core(core)
        assert found is not None
        assert found.newest == (b"x" * 20_000, newest)
    assert sum(cache.find_core(b"%d" % number) is not None for number in range(100)) == most // 2 // 61_200
