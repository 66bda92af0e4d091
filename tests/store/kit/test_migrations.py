"""Migrations: one works, the others wait; and nothing to do costs nothing."""

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest
from tocsin_kit.db.migrations import head_of, require_revision, upgrade
from tocsin_kit.db.pool import Database
from tocsin_kit.errors import TocsinError
from tocsin_stack.postgres import Postgres

MIGRATIONS = Path(__file__).with_name("migrations")

SECOND = """
from alembic import op
from tocsin_kit.db.migrations import run_script

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    run_script(op, "CREATE TABLE half (id int); {then}")
"""


@pytest.fixture
async def empty(postgres: Postgres) -> AsyncIterator[str]:
    yield await postgres.ensure_database("kit_empty", "kit")
    await postgres.drop_database("kit_empty")


async def fetch(url: str, sql: str) -> list[object]:
    connection = await asyncpg.connect(url)
    try:
        return [row[0] for row in await connection.fetch(sql)]
    finally:
        await connection.close()


async def test_a_crowd_of_processes_migrates_once(empty: str) -> None:
    assert sorted(await asyncio.gather(*(upgrade(empty, MIGRATIONS) for _ in range(4)))) == [False, False, False, True]
    assert await fetch(empty, "SELECT version_num FROM alembic_version") == ["0001"]


async def test_nothing_to_do_does_not_even_load_the_tool(url: str) -> None:
    """Alembic and SQLAlchemy take longer to import than a warm start may last."""
    code = (
        "import asyncio, sys; from pathlib import Path; from tocsin_kit.db.migrations import upgrade\n"
        f"assert asyncio.run(upgrade({url!r}, Path({str(MIGRATIONS)!r}))) is False\n"
        "assert not {'alembic', 'sqlalchemy'} & set(sys.modules)"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code)
    assert await process.wait() == 0


async def test_a_failing_migration_leaves_nothing(empty: str, tmp_path: Path) -> None:
    versions = tmp_path / "versions"
    versions.mkdir()
    first = (MIGRATIONS / "versions/0001_widgets.py").read_text()
    (versions / "0001_widgets.py").write_text(first)
    (versions / "0002_half.py").write_text(SECOND.format(then="SELECT 1/0"))
    with pytest.raises(Exception, match="division by zero"):
        await upgrade(empty, tmp_path)
    assert await fetch(empty, "SELECT to_regclass('half')::text") == [None]
    (versions / "0002_half.py").write_text(SECOND.format(then="SELECT 1"))
    assert await upgrade(empty, tmp_path) is True
    assert await fetch(empty, "SELECT to_regclass('half')::text") == ["half"]
    assert head_of(tmp_path) == "0002"


async def test_code_refuses_an_older_schema_and_takes_a_newer_one(db: Database) -> None:
    await require_revision(db, "0001")
    with pytest.raises(TocsinError, match="0001, this code needs 0002"):
        await require_revision(db, "0002")
    async with db.system() as tx:
        await tx.execute("UPDATE alembic_version SET version_num = '0003'")
    await require_revision(db, "0002")


def test_a_revision_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "versions").mkdir()
    with pytest.raises(ValueError, match="revision"):
        head_of(tmp_path)
    (tmp_path / "versions/0001_x.py").write_text("down_revision = None")
    with pytest.raises(ValueError, match="revision"):
        head_of(tmp_path)
