"""How long the tests go on that could go on for ever: a short round in `make test`, a long one in `make test-long`."""

import os
from typing import Final

LONG: Final = os.environ.get("TEST_ROUNDS") == "long"


def examples(count: int) -> int:
    """How many examples Hypothesis tries, of the `count` of a long round."""
    return count if LONG else max(20, count // 4)
