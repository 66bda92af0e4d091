"""Links by which people answer: only what was sealed here opens, with any key that is still configured."""

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tocsin_notify.domain.answer_link import AnswerLink, seal, unseal

KEY, OLD = b"k" * 32, b"o" * 32
LINK = AnswerLink("acme", uuid.UUID(int=7), 1_800_000_000, 0)

links = st.builds(
    AnswerLink,
    st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,99}", fullmatch=True),
    st.uuids(),
    st.integers(min_value=0, max_value=2**40 - 1),
    st.integers(min_value=0, max_value=32_767),
    st.booleans(),
)


@given(links)
def test_what_was_sealed_opens_as_it_was(link: AnswerLink) -> None:
    token = seal(KEY, link)
    assert unseal([KEY], token) == link
    assert unseal([OLD, KEY], token) == link, "keys are rotated by putting a new one first"
    assert unseal([OLD], token) is None
    assert token.isascii()
    assert token.replace("-", "").replace("_", "").isalnum(), "no character that a URL or a phone changes"


@given(st.data())
def test_a_link_that_was_changed_anywhere_opens_nothing(data: st.DataObject) -> None:
    token = seal(KEY, LINK)
    place = data.draw(st.integers(min_value=0, max_value=len(token) - 2))  # the last one holds bits that mean nothing
    other = data.draw(st.sampled_from("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"))
    changed = token[:place] + other + token[place + 1 :]
    assert (unseal([KEY], changed) is None) == (changed != token)


@given(st.text(max_size=500))
def test_no_other_text_opens_anything(text: str) -> None:
    assert unseal([KEY], text) is None


@pytest.mark.parametrize(
    "token", ["", "A", "====", seal(KEY, LINK)[:-4], seal(KEY, LINK) + "AAAA", "A" * 401, "é" * 40]
)
def test_cut_and_lengthened_links(token: str) -> None:
    assert unseal([KEY], token) is None


def test_a_short_tenant_makes_a_link_that_fits_into_a_text_message() -> None:
    assert len(seal(KEY, LINK)) <= 60
