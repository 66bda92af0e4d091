"""What the last release needs of the databases: `python tools/released.py` records it when a release is made.

`tests/store/test_released.py` holds each later migration against it: the version before goes on running after a migration, and is
started again by a rollback. The record is `services/<service>/released.json`: the columns of all tables, and all statements.
"""

import ast
import asyncio
import importlib
import json
import pkgutil
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import asyncpg
from tocsin_stack.plan import StackSettings
from tocsin_stack.scratch import scratch
from tocsin_stack.service import SERVICES
from tocsin_stack.stack import Stack

ROOT = Path(__file__).resolve().parent.parent
STATEMENT = re.compile(r"\s*(SELECT|WITH|INSERT INTO|UPDATE|DELETE FROM)\s")
COLUMNS = """
SELECT c.relname AS table, a.attname AS column, format_type(a.atttypid, a.atttypmod) AS type,
  NOT a.attnotnull OR a.atthasdef OR a.attidentity <> '' AS optional
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relnamespace = 'public'::regnamespace
ORDER BY 1, a.attnum
"""


def texts_of(package: str) -> set[str]:
    """Every statement that stands in a module of the package, and parts of some."""
    found = set[str]()
    for each in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}."):
        if not each.name.endswith("__main__"):
            found |= set(_texts(importlib.import_module(each.name)))
    return {text for text in found if STATEMENT.match(text)}


def _texts(module: ModuleType) -> Iterator[str]:
    for value in vars(module).values():
        text = getattr(value, "sql", value)
        if isinstance(text, str):
            yield text
    for node in ast.walk(ast.parse(Path(str(module.__file__)).read_text())):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.JoinedStr):
            try:
                yield str(eval(compile(ast.Expression(node), "text", "eval"), vars(module)))
            except NameError:
                continue  # a part of it is only known when it runs


async def record(service: str, url: str) -> dict[str, object]:
    """What a service needs of its database, which is migrated."""
    session = await asyncpg.connect(url)
    columns: dict[str, dict[str, str]] = {}
    for row in await session.fetch(COLUMNS):
        columns.setdefault(row["table"], {})[row["column"]] = row["type"]
    statements = []
    for text in sorted(texts_of(f"tocsin_{service}") | texts_of("tocsin_kit")):
        try:
            await session.prepare(text)
        except (asyncpg.PostgresError, asyncpg.InterfaceError):
            continue  # a part of a statement, or one of another service
        statements.append(text)
    await session.close()
    return {"columns": columns, "statements": statements}


async def main(target: Path) -> None:
    with scratch() as folder:
        stack = Stack(StackSettings(data_dir=folder, fsync=False))
        try:
            await stack.provision(serving=False)
            await stack.migrate()
            for service in SERVICES:
                path = target / "services" / service.name / "released.json"
                path.parent.mkdir(parents=True, exist_ok=True)
                known = await record(service.name, stack.plan.databases[service.name])
                path.write_text(json.dumps(known, indent=1) + "\n")
        finally:
            await stack.stop()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]) if sys.argv[1:] else ROOT))
