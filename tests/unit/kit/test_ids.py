"""Ids in order, names that are one thing only."""

import os
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tocsin_kit import ids
from tocsin_kit.errors import TocsinError
from tocsin_kit.ids import format_name, id_of, new_id, parse_name, parse_names, parse_uuid_name


def test_ids_grow_and_are_version_7() -> None:
    made = [new_id() for _ in range(5000)]
    assert made == sorted(made)
    assert len(set(made)) == len(made)
    assert {(each.version, each.variant) for each in made} == {(7, uuid.RFC_4122)}


def test_a_clock_that_steps_back_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    before = new_id()
    monkeypatch.setattr("time.time_ns", lambda: 0)
    later = [new_id() for _ in range(10)]
    assert [before, *later] == sorted([before, *later])


def test_threads_never_make_the_same() -> None:
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: [new_id() for _ in range(500)], range(8)))
    assert len({each for part in made for each in part}) == 4000


def test_a_child_does_not_make_what_its_parent_makes() -> None:
    new_id()
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(theirs, new_id().bytes)
        os._exit(0)
    os.waitpid(child, 0)
    made = uuid.UUID(bytes=os.read(ours, 16))
    # The last 62 bits are random: the same ones would be those that were drawn before the fork.
    assert made.int & (1 << 62) - 1 != new_id().int & (1 << 62) - 1
    os.close(ours)
    os.close(theirs)


@given(st.from_regex(ids.SLUG, fullmatch=True))
def test_names_there_and_back(slug: str) -> None:
    assert parse_name(format_name("widgets", slug), "widgets") == slug
    assert parse_names(format_name("widgets", "w", "parts", slug), "widgets", "parts") == ("w", slug)


@pytest.mark.parametrize(
    "name",
    ["", "widgets", "widgets/", "/x", "gadgets/x", "widgets/x/", "widgets/x/y", "widgets/X", "widgets/" + "x" * 64],
)
def test_anything_else_is_no_name(name: str) -> None:
    with pytest.raises(TocsinError) as caught:
        parse_name(name, "widgets", field="widget.name")
    assert caught.value.fields[0].field == "widget.name"


def test_a_uuid_has_one_spelling() -> None:
    made = new_id()
    assert parse_uuid_name(f"widgets/{made}", "widgets") == made
    for bad in (
        f"widgets/{made}".upper(),
        f"widgets/{made.hex}",
        "widgets/x",
        f"gadgets/{made}",
        f"widgets/{{{made}}}",
    ):
        with pytest.raises(TocsinError):
            parse_uuid_name(bad, "widgets")


@given(st.binary(min_size=16, max_size=16))
def test_an_id_of_the_driver_is_the_same_as_one_of_the_standard_library(data: bytes) -> None:
    ours, theirs = id_of(data), uuid.UUID(bytes=data)
    assert isinstance(ours, uuid.UUID)
    assert (ours, hash(ours), str(ours), ours.bytes, ours.int) == (theirs, hash(theirs), str(theirs), data, theirs.int)
    assert {ours: 1}[theirs] == {theirs: 1}[ours] == 1
    assert ours <= theirs <= ours
    assert not ours < theirs
