"""Pages: sizes, and tokens bound to tenant, method and query."""

import datetime
import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tocsin_kit.auth import Principal, SigningKeys
from tocsin_kit.errors import TocsinError
from tocsin_kit.rpc.call import Call
from tocsin_kit.rpc.paging import PageTokens, page_size

KEYS = SigningKeys((("new", b"k" * 32), ("old", b"o" * 32)))
TOKENS = PageTokens(KEYS)


def call(org_id: str = "acme", method: str = "s/List") -> Call:
    return Call(method, Principal(org_id, "users/ana", frozenset()), "0" * 32, None)


def refused(request: Any, by: Call, tokens: PageTokens = TOKENS) -> bool:
    with pytest.raises(TocsinError) as caught:
        tokens.decode(request, call=by)
    return caught.value.reason_name == "PAGE_TOKEN_INVALID"


def test_sizes() -> None:
    assert [page_size(given) for given in (0, 1, 500, 501)] == [50, 1, 500, 500]
    with pytest.raises(TocsinError):
        page_size(-1)


@given(
    st.lists(
        st.text(st.characters(exclude_characters="\x1f", exclude_categories=["Cs"]))
        | st.integers()
        | st.uuids()
        | st.datetimes(timezones=st.just(datetime.UTC)),
        min_size=1,
        max_size=4,
    )
)
def test_positions_there_and_back(echo: Any, position: list[Any]) -> None:
    request = echo.Request(text="filter")
    token = TOKENS.encode(request, position, call=call())
    again = echo.Request(text="filter", page_token=token, page_size=7)
    assert TOKENS.decode(again, call=call()) == tuple(position)


def test_the_first_page_has_no_position(echo: Any) -> None:
    assert TOKENS.decode(echo.Request(), call=call()) is None


def test_a_token_is_good_for_its_own_query_only(echo: Any) -> None:
    token = TOKENS.encode(echo.Request(text="a"), ["x", uuid.UUID(int=1)], call=call())
    assert refused(echo.Request(text="b", page_token=token), call())
    assert refused(echo.Request(page_token=token), call())
    assert refused(echo.Request(text="a", page_token=token), call(org_id="other"))
    assert refused(echo.Request(text="a", page_token=token), call(method="s/Other"))
    assert refused(echo.Request(text="a", page_token=token), call(), PageTokens(SigningKeys((("x", b"x" * 32),))))


@given(st.data())
def test_a_damaged_token_is_refused(echo: Any, data: st.DataObject) -> None:
    token = TOKENS.encode(echo.Request(), ["secret-position"], call=call())
    place = data.draw(st.integers(0, len(token) - 2))  # the last character has unused bits
    letter = data.draw(st.sampled_from("AZaz09-_!é "))
    damaged = token[:place] + letter + token[place + 1 :]
    assert damaged == token or refused(echo.Request(page_token=damaged), call())
    assert not place or refused(echo.Request(page_token=token[:place]), call())


def test_a_token_shows_nothing_and_outlives_a_key_rotation(echo: Any) -> None:
    older = PageTokens(SigningKeys(KEYS.keys[::-1]))
    token = older.encode(echo.Request(), ["secret-position"], call=call())
    assert TOKENS.decode(echo.Request(page_token=token), call=call()) == ("secret-position",)
    assert "secret" not in token
    assert token != older.encode(echo.Request(), ["secret-position"], call=call())
