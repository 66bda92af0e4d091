"""Names the test that opened a connection which was never closed.

Python tells of such a connection when it collects it, and that is within some later test, which pytest then blames.
"""

import asyncio.selector_events
import os
from typing import Any


def install() -> None:
    """From now on the text of a transport says where it comes from."""
    transport: Any = asyncio.selector_events._SelectorTransport  # type: ignore[attr-defined]
    init, text = transport.__init__, transport.__repr__

    def __init__(self: Any, *args: Any, **options: Any) -> None:
        self.opened_in = os.environ.get("PYTEST_CURRENT_TEST", "no test")
        init(self, *args, **options)

    def __repr__(self: Any) -> str:
        protocol = type(getattr(self, "_protocol", None)).__name__
        return f"{text(self)[:-1]} of a {protocol}, opened in {self.opened_in}>"

    transport.__init__, transport.__repr__ = __init__, __repr__
