"""Templates: rows and back."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from tocsin_kit.db.pool import Tx
from tocsin_kit.db.rows import columns

from tocsin_notify.domain.page import Kind
from tocsin_notify.domain.template import Part, Wording

_PARTS: Final = tuple(str(part) for part in Part)
_KNOWN: Final = frozenset(Kind)


@dataclass(frozen=True, slots=True)
class TemplateRow:
    """One as it is kept. An empty part means the default text."""

    id: UUID
    type: str
    language: str
    subject: str
    text: str
    sms: str
    chat: str
    voice: str
    version: int
    create_time: datetime
    update_time: datetime
    html: str

    @property
    def kind(self) -> Kind:
        """The kind of its messages."""
        return Kind(self.type)

    @property
    def parts(self) -> Wording:
        """The parts that it replaces."""
        return {part: text for part in Part if (text := getattr(self, part))}


_COLUMNS: Final = columns(TemplateRow)
_BUMP: Final = """
INSERT INTO template_sets AS s (org_id) VALUES ($1)
ON CONFLICT (org_id) DO UPDATE SET version = s.version + 1, live = true RETURNING version
"""
_EMPTIED: Final = """
UPDATE template_sets SET live = EXISTS (SELECT FROM templates WHERE org_id = $1) WHERE org_id = $1
"""
_INSERT: Final = f"""
INSERT INTO templates (org_id, id, type, language, {", ".join(_PARTS)})
VALUES ($1, $2, $3, $4, {", ".join(f"${number}" for number in range(5, 5 + len(_PARTS)))})
ON CONFLICT ON CONSTRAINT templates_one_of_each DO NOTHING RETURNING {_COLUMNS}
"""
_UPDATE: Final = f"""
UPDATE templates SET {", ".join(f"{part} = ${number}" for number, part in enumerate(_PARTS, 3))}, version = version + 1,
  update_time = app_now()
WHERE org_id = $1 AND id = $2 RETURNING {_COLUMNS}
"""
_READ: Final = f"SELECT {_COLUMNS} FROM templates WHERE org_id = $1 AND id = $2"
_PAGE: Final = f"""
SELECT {_COLUMNS} FROM templates WHERE org_id = $1 AND (create_time, id) > ($2, $3) ORDER BY create_time, id LIMIT $4
"""
_ALL: Final = f"""
SELECT s.version, t.* FROM template_sets s LEFT JOIN (SELECT org_id, {_COLUMNS} FROM templates WHERE org_id = $1) t USING (org_id)
WHERE s.org_id = $1
"""
_BYTES: Final = f"""
SELECT coalesce(sum({" + ".join(f"octet_length({part})" for part in _PARTS)}), 0)::int FROM templates WHERE org_id = $1
"""
_VERSIONS: Final = "SELECT org_id, version FROM template_sets WHERE live"


async def begin(tx: Tx) -> int:
    """Call it before a change of the tenant's templates: it waits for earlier changes, and returns the new version of
    all of them."""
    version: int = await tx.fetchval(_BUMP, tx.org_id)
    return version


async def insert(tx: Tx, id: UUID, kind: Kind, language: str, parts: Mapping[Part, str]) -> TemplateRow | None:
    """A new one; None: there is one already for these messages and this language."""
    row = await tx.fetchrow(_INSERT, tx.org_id, id, kind, language, *_values(parts))
    return None if row is None else TemplateRow(*row)


async def update(tx: Tx, id: UUID, parts: Mapping[Part, str]) -> TemplateRow:
    """A locked one's new parts."""
    row = await tx.fetchrow(_UPDATE, tx.org_id, id, *_values(parts))
    assert row is not None, "the row is locked by this transaction"
    return TemplateRow(*row)


async def read(tx: Tx, id: UUID, *, lock: bool = False) -> TemplateRow | None:
    """One of the tenant."""
    row = await tx.fetchrow(_READ + (" FOR UPDATE" if lock else ""), tx.org_id, id)
    return None if row is None else TemplateRow(*row)


async def page(tx: Tx, after: tuple[datetime, UUID], limit: int) -> list[TemplateRow]:
    """Oldest first, behind a (create_time, id)."""
    return [TemplateRow(*row) for row in await tx.fetch(_PAGE, tx.org_id, *after, limit)]


async def delete(tx: Tx, id: UUID) -> None:
    """A locked one's end."""
    await tx.execute("DELETE FROM templates WHERE org_id = $1 AND id = $2", tx.org_id, id)
    await tx.execute(_EMPTIED, tx.org_id)


async def size(tx: Tx) -> int:
    """Bytes of all templates of the tenant."""
    found: int = await tx.fetchval(_BYTES, tx.org_id)
    return found


async def all_of(tx: Tx) -> tuple[int, list[TemplateRow]]:
    """The version of the tenant's templates, and the templates, except those of kinds that only a newer version knows."""
    rows = await tx.fetch(_ALL, tx.org_id)
    version = rows[0]["version"] if rows else 0
    found = [row for row in rows if row["id"] is not None and row["type"] in _KNOWN]
    return version, [TemplateRow(*list(row)[2:]) for row in found]


async def versions(tx: Tx) -> dict[str, int]:
    """The version of the templates of each tenant that has some."""
    return {row["org_id"]: row["version"] for row in await tx.fetch(_VERSIONS)}


def _values(parts: Mapping[Part, str]) -> list[str]:
    return [parts.get(part, "") for part in Part]
