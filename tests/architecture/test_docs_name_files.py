"""Files and modules that the documents name exist: a rename leaves no page behind."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
PAGES: Final = sorted(
    page
    for pattern in ("*.md", "docs/**/*.md", "libs/*/*.md", "services/*/*.md")
    for page in ROOT.glob(pattern)
    if page.name != "CHANGELOG.md"
)
BY_NAME: Final[dict[str, list[str]]] = {}
for folder in ("libs", "services", "tests", "tools", "docker"):
    for path in (ROOT / folder).rglob("*.py"):
        BY_NAME.setdefault(path.name, []).append(f"/{path.relative_to(ROOT)}")
FILE: Final = re.compile(r"`([\w/.-]+\.py)`|\]\(([^)#:]+\.py)\)")
MODULE: Final = re.compile(r"`(tocsin_[a-z]+(?:\.[a-z_]+)+)`")
# Of the example in CONTRIBUTING, and files that a reader writes.
EXAMPLES: Final = {"0002_what_changes.py", "try.py", "test_our_policy.py", "conftest.py"}


def named(page: str) -> Iterator[str]:
    """Ends of the paths of the files that a page names. A module may be named with what is in it."""
    for found in FILE.finditer(page):
        path = (found[1] or found[2]).lstrip("./")
        if path.rpartition("/")[2] not in EXAMPLES:
            yield f"/{path}"
    for name in MODULE.findall(page):
        yield f"/{name.replace('.', '/')}.py"


def is_there(path: str) -> bool:
    """The file, the package, or the module whose member it is."""
    folder, _, name = path.removesuffix(".py").rpartition("/")
    module = folder.rpartition("/")[2]
    return (
        any(source.endswith(path) for source in BY_NAME.get(f"{name}.py", ()))
        or any(source.endswith(f"{folder}/{name}/__init__.py") for source in BY_NAME["__init__.py"])
        or any(source.endswith(f"{folder}.py") and is_in(source, name) for source in BY_NAME.get(f"{module}.py", ()))
        or any(source.endswith(f"{folder}/__init__.py") and is_in(source, name) for source in BY_NAME["__init__.py"])
    )


def is_in(source: str, member: str) -> bool:
    return re.search(rf"\b{re.escape(member)}\b", (ROOT / source.lstrip("/")).read_text()) is not None


def test_every_file_and_module_that_a_page_names_is_there() -> None:
    assert len(PAGES) > 50
    missing = {
        f"{page.relative_to(ROOT)}: {path}" for page in PAGES for path in named(page.read_text()) if not is_there(path)
    }
    assert not missing


def test_what_was_renamed_is_found() -> None:
    page = "see `rpc/rooms.py`, `tocsin_kit.collector.resting` and [it](../tests/unit/kit/test_http_door.py)"
    assert [path for path in named(page) if not is_there(path)] == [
        "/rpc/rooms.py",
        "/tests/unit/kit/test_http_door.py",
        "/tocsin_kit/collector/resting.py",
    ]
