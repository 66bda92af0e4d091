"""A search looks at so many rows per page and no more, and still finds everything."""

from datetime import datetime
from uuid import UUID

import pytest
from tocsin_escalation.store.incidents import finding
from tocsin_escalation.store.incidents.finding import Filters

from tests.store.escalation.recorders import ORG, Desk


@pytest.mark.parametrize("scanned", [1, 3, 4, 7, 8, 100])
async def test_every_match_comes_once_however_few_rows_a_page_may_look_at(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, scanned: int
) -> None:
    monkeypatch.setattr(finding, "MOST_SCANNED", scanned)
    opened = [await desk.opens(title=f"{'odd' if number % 2 else 'even'} {number}") for number in range(8)]
    found: list[UUID] = []
    pages = 0
    behind: tuple[datetime, UUID] | None = None
    while not pages or behind is not None:
        async with desk.db.transaction(ORG) as tx:
            page = await finding.newest(tx, Filters(words=("odd",)), behind, 2)
        assert len(page.rows) <= 2
        found += [row.run.incident_id for row in page.rows]
        pages, behind = pages + 1, page.end
        assert pages < 20
    assert sorted(found) == sorted(opened[1::2])
