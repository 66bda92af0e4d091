"""The size of details is what protobuf would write, and is known without writing them."""

from typing import Any

import pytest
from google.protobuf import json_format
from google.protobuf.struct_pb2 import Struct
from hypothesis import given, settings
from hypothesis import strategies as st
from tocsin_ingest.app.alerts.details import LIMIT, check_details, json_length
from tocsin_kit.errors import TocsinError

from tests.rounds import examples

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=15,
)


@settings(max_examples=examples(200), deadline=None)
@given(st.dictionaries(TEXT, VALUES, max_size=5))
def test_the_length_is_that_of_the_json(details: dict[str, Any]) -> None:
    struct = Struct()
    struct.update(details)
    assert json_length(struct) == len(json_format.MessageToJson(struct, indent=None, ensure_ascii=False).encode())


@pytest.mark.parametrize(
    ("text", "fits"), [("x" * (LIMIT - 9), True), ("x" * (LIMIT - 8), False), ("\x01" * LIMIT, False)]
)
def test_the_limit_is_exact(text: str, fits: bool) -> None:
    struct = Struct()
    struct["a"] = text
    assert (len(json_format.MessageToJson(struct, indent=None).encode()) <= LIMIT) is fits
    if fits:
        check_details(struct)
    else:
        with pytest.raises(TocsinError, match="must be at most 65536 bytes as JSON"):
            check_details(struct)


def test_small_numbers_may_take_many_times_their_json() -> None:
    struct = Struct()
    struct["a"] = [1.0] * 10_000
    assert struct.ByteSize() > 100_000
    check_details(struct)
