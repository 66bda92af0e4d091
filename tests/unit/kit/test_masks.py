"""Partial updates by mask, and etags."""

from typing import Any

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from tocsin_kit.errors import TocsinError
from tocsin_kit.rpc.masks import apply_update_mask, etag, require_etag, update_paths

WRITABLE = ("text", "items", "item")


def updated(echo: Any, source: dict[str, Any], *paths: str) -> dict[str, Any]:
    target = echo.Request(text="old", color=1, items=[{"name": "old"}], item={"name": "old"}, page_size=5)
    apply_update_mask(target, echo.Request(**source), FieldMask(paths=paths), writable=WRITABLE)
    assert (target.color, target.page_size) == (1, 5), "not writable"
    return {
        "text": target.text,
        "items": [item.name for item in target.items],
        "item": target.item.name if target.HasField("item") else None,
    }


OLD = {"text": "old", "items": ["old"], "item": "old"}
NEW = {"text": "new", "color": 0, "items": [{"name": "a"}, {"name": "b"}], "item": {"name": "new"}, "page_size": 9}


def test_without_a_mask_what_is_set_is_written(echo: Any) -> None:
    assert updated(echo, {"text": "new"}) == {**OLD, "text": "new"}
    assert updated(echo, {"items": [{"name": "a"}]}) == {**OLD, "items": ["a"]}
    assert updated(echo, {"page_size": 9}) == OLD
    assert updated(echo, {}) == OLD


def test_a_star_writes_everything_writable(echo: Any) -> None:
    assert updated(echo, NEW, "*") == {"text": "new", "items": ["a", "b"], "item": "new"}
    assert updated(echo, {}, "*") == {"text": "", "items": [], "item": None}


def test_a_path_writes_its_field_and_clears_what_is_not_set(echo: Any) -> None:
    assert updated(echo, NEW, "text") == {**OLD, "text": "new"}
    assert updated(echo, {}, "items", "text") == {**OLD, "items": [], "text": ""}
    assert updated(echo, NEW, "item.name") == {**OLD, "item": "new"}
    assert updated(echo, {}, "item") == {**OLD, "item": None}


def test_a_path_that_is_not_writable_is_left_out(echo: Any) -> None:
    assert updated(echo, NEW, "color", "page_size", "text") == {**OLD, "text": "new"}


@pytest.mark.parametrize("path", ["nope", "item.nope", "items.name", "text.length", "", "item."])
def test_a_path_that_does_not_exist_is_refused(echo: Any, path: str) -> None:
    with pytest.raises(TocsinError) as caught:
        update_paths(FieldMask(paths=["text", path]), echo.Request(), writable=WRITABLE)
    assert caught.value.reason_name == "UPDATE_MASK_INVALID"
    assert caught.value.metadata == {"path": path}


def test_etags() -> None:
    require_etag(etag(7), 7)
    require_etag("", 7)
    for stale in (etag(6), "7", "v", "vx", "W/v7", "v" + "9" * 30):
        with pytest.raises(TocsinError) as caught:
            require_etag(stale, 7)
        assert caught.value.reason_name == "ETAG_MISMATCH"
    with pytest.raises(TocsinError) as caught:
        require_etag("", 7, required=True)
    assert caught.value.fields[0].field == "etag"
