"""Bodies that were deflated, in every form that senders use, cut anywhere."""

import gzip
import random
import zlib
from collections.abc import Callable

import pytest
from tocsin_kit.http_encoding import Inflater

RANDOM = random.Random(5)
BODIES = {
    "none": b"",
    "one": b"x",
    "json": b'{"a": [1, 2, 3]}' * 50,
    "noise": RANDOM.randbytes(100_000),
    "long": b"y" * (64 << 10) * 5,
    "a piece": b"z" * (64 << 10),
}


def raw(body: bytes) -> bytes:
    deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return deflate.compress(body) + deflate.flush()


FORMS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", gzip.compress),
    "members": ("gzip", lambda body: gzip.compress(body[: len(body) // 2]) + gzip.compress(body[len(body) // 2 :])),
    "zlib": ("deflate", zlib.compress),
    "raw": ("deflate", raw),
}


def inflated(encoding: str, data: bytes, size: int) -> bytes:
    inflater = Inflater(encoding)
    pieces = [piece for start in range(0, len(data), size) for piece in inflater.feed(data[start : start + size])]
    inflater.end()
    assert all(len(piece) <= 64 << 10 for piece in pieces), "a limit is looked at in time"
    return b"".join(pieces)


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
@pytest.mark.parametrize("form", FORMS)
def test_what_was_packed_comes_out_however_it_was_cut(form: str, body: bytes) -> None:
    encoding, pack = FORMS[form]
    packed = pack(body)
    for size in (1, 7, 1000, len(packed)):
        if len(packed) // size < 5000:
            assert inflated(encoding, packed, size) == body


@pytest.mark.parametrize("form", FORMS)
def test_what_is_cut_off_broken_or_too_long_is_told(form: str) -> None:
    encoding, pack = FORMS[form]
    packed = pack(BODIES["json"])
    for data in (packed[:-1], packed[:5], b"{}", packed + b"x", bytes(20)):
        with pytest.raises(zlib.error):
            inflated(encoding, data, 1000)


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_nothing_at_all_is_an_empty_body(encoding: str) -> None:
    assert inflated(encoding, b"", 1) == b""
