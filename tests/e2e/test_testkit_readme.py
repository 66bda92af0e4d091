"""The example in libs/testkit/README.md, run as it stands."""

import re
from collections.abc import Awaitable, Callable
from typing import Any, Final

import pytest
from tocsin_testkit import plugin
from tocsin_testkit.tenant import Tenant

from tests.e2e.operator_doc import ROOT

README: Final = (ROOT / "libs" / "testkit" / "README.md").read_text()
CONFTEST, EXAMPLE = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
SPACE: Final[dict[str, Any]] = {}
exec(compile(EXAMPLE, "libs/testkit/README.md", "exec"), SPACE)
TESTS: Final[dict[str, Callable[[Tenant], Awaitable[None]]]] = {
    name: each for name, each in SPACE.items() if name.startswith("test_")
}

pytestmark = pytest.mark.stack


@pytest.mark.parametrize("name", TESTS)
async def test_the_example_holds(tenant: Tenant, name: str) -> None:
    await TESTS[name](tenant)


def test_the_example_finds_its_fixtures() -> None:
    assert plugin.__name__ in CONFTEST
    assert {"world", "tenant"} <= vars(plugin).keys()
