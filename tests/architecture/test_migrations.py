"""The migrations of each service stand in one line: two of the same number would leave every new database without its schema."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SERVICES = sorted(path.parent.name for path in ROOT.glob("services/*/migrations"))


@pytest.mark.parametrize("service", SERVICES)
def test_each_migration_follows_the_one_before_it(service: str) -> None:
    files = sorted((ROOT / "services" / service / "migrations" / "versions").glob("[0-9]*.py"))
    found = {path.name: (_said(path, "revision"), _said(path, "down_revision")) for path in files}
    numbers = [f"{number:04}" for number in range(1, len(files) + 1)]
    assert [revision for revision, _ in found.values()] == numbers, "two have one number: the later one takes the next"
    assert [before for _, before in found.values()] == [None, *numbers[:-1]]
    assert [name[:4] for name in found] == numbers, "the file's name begins with its number"


def _said(path: Path, name: str) -> str | None:
    found = re.search(rf'^{name}(?:: [^=]+)? = (?:"(\w+)"|None)$', path.read_text(), re.MULTILINE)
    assert found is not None, f"{path.name} does not say its {name}"
    return found[1]
