"""How long the tests go on that could go on for ever: a short round in `make test`, a long one in `make test-long`."""

import os
from typing import Final

LONG: Final = os.environ.get("TEST_ROUNDS") == "long"
