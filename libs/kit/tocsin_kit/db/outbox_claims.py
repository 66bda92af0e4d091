"""Which outbox rows a relay claims: tenants in turn, a limited number of rows and bytes, only the oldest row of a key.

The tenants are found by jumping from one to the next in an index, and each gives its first few due rows. So a claim costs the
same whether a tenant has ten due rows or a million. At most `ORGS` tenants are read in one claim; the next claim continues after
the last one. Only the sizes of the candidates are read before the claim is limited, so payloads beyond the limit in bytes are
never loaded.

A tenant's rows are selected by comparisons of (kind, org_id, due_time) as a whole, and sorted by all of it: only an index that
begins with the tenant can serve that. With plain equalities and statistics of a single tenant, the planner uses an index by time,
and reads the backlog of all other tenants. Scalar sub-selects instead of joins keep the planner on the indexes, independent of
its estimates about a table that is empty one minute and full the next; `Database.alone` switches off the other plans. A claim
whose answer is lost keeps its rows until their lease ends.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from tocsin_kit.db.outbox_rows import OutboxRow
from tocsin_kit.db.pool import Database

ORGS: Final = 200
"""Tenants read in one claim."""
_LEAST_SHARE: Final = 4
"""Rows of a tenant that are read in one claim, however many tenants there are."""
_FRAME_BYTES: Final = 64
"""What a row adds to a message beside its payload: id, time, framing."""

_NEXT_ORG: Final = """(SELECT next.org_id FROM outbox AS next
    WHERE next.dead_time IS NULL AND next.refusals {refusals} AND next.kind = {kind} AND next.org_id > {after}
    ORDER BY next.org_id LIMIT 1)"""


def _hop(refusals: str) -> str:
    first = _NEXT_ORG.format(refusals=refusals, kind="given.kind", after="$4")
    following = _NEXT_ORG.format(refusals=refusals, kind="orgs.kind", after="orgs.org_id")
    return f"""
    SELECT given.kind, {first} AS org_id, 1 AS n FROM unnest($1::text[]) AS given (kind)
    UNION ALL
    SELECT orgs.kind, {following}, orgs.n + 1 FROM orgs WHERE orgs.org_id IS NOT NULL AND orgs.n < $6"""


# As `(…) IS TRUE` no index serves it: the rows of a claim are then found by their ids only.
_FREE: Final = "dead_time IS NULL AND due_time <= app_now() AND (lease_until IS NULL OR lease_until <= app_now())"


def _claim(orgs: str, refusals: str) -> str:
    return f"""
WITH RECURSIVE orgs (kind, org_id, n) AS ({orgs}
), visited AS MATERIALIZED (
    SELECT kind, org_id, n FROM orgs WHERE org_id IS NOT NULL
), share AS MATERIALIZED (
    SELECT greatest({_LEAST_SHARE}, $2::int / greatest(1, count(*)::int)) AS most FROM visited
), due AS (
    SELECT mine.* FROM visited CROSS JOIN LATERAL (
        SELECT row.id, row.due_time, octet_length(row.payload) + {_FRAME_BYTES} AS bytes,
          row_number() OVER (ORDER BY row.kind, row.org_id, row.due_time, row.id) AS turn
        FROM outbox AS row
        WHERE (row.kind, row.org_id, row.due_time) > (visited.kind, visited.org_id, '-infinity'::timestamptz)
          AND (row.kind, row.org_id, row.due_time) <= (visited.kind, visited.org_id, app_now())
          AND row.dead_time IS NULL AND row.refusals {refusals} AND (row.lease_until IS NULL OR row.lease_until <= app_now())
          AND (row.ordering_key = '' OR row.id = (
              SELECT oldest.id FROM outbox AS oldest
              WHERE oldest.ordering_key = row.ordering_key AND oldest.dead_time IS NULL AND oldest.ordering_key <> ''
                AND oldest.org_id = row.org_id AND oldest.kind = ANY($1::text[])
              ORDER BY oldest.id LIMIT 1))
        ORDER BY row.kind, row.org_id, row.due_time, row.id LIMIT (SELECT most FROM share)
    ) AS mine
    WHERE visited.org_id <> ALL($5::text[])
), placed AS MATERIALIZED (
    SELECT id, turn, row_number() OVER turns AS place, sum(bytes) OVER turns AS total
    FROM due WINDOW turns AS (ORDER BY turn, due_time, id)
), mine AS MATERIALIZED (
    SELECT id FROM outbox
    WHERE id = ANY(ARRAY(SELECT id FROM placed WHERE place <= $2 AND (total <= $7 OR place = 1))) AND ({_FREE}) IS TRUE
    FOR UPDATE SKIP LOCKED
), claimed AS (
    UPDATE outbox SET lease_until = app_now() + make_interval(secs => $3), attempts = outbox.attempts + 1
    FROM mine WHERE outbox.id = mine.id
    RETURNING outbox.id, outbox.org_id, ordering_key, kind, payload, create_time, attempts, refusals, retries, substituted
)
SELECT EXISTS (SELECT FROM outbox WHERE dead_time IS NULL AND refusals > 0 AND kind = ANY($1::text[])) AS refused,
  (SELECT count(*) > (SELECT count(*) FROM mine) OR coalesce(max(turn) = (SELECT most FROM share), false)
        FROM placed) AS more,
  (SELECT min(org_id) FROM visited WHERE n = $6) AS cursor, claimed.*
FROM (VALUES (1)) AS always LEFT JOIN claimed ON true
"""


_CLAIM: Final = _claim(_hop("= 0"), "= 0")
_CLAIM_OF: Final = _claim(
    "SELECT kind, org_id, 0 FROM unnest($1::text[]) AS kind, unnest($4::text[]) AS org_id", "= 0"
).replace("$6", "$6::int")
_CLAIM_REFUSED: Final = _claim(_hop("> 0"), "> 0")


@dataclass(frozen=True, slots=True)
class Claimed:
    """The result of a claim."""

    rows: list[OutboxRow]
    """In the order of their ids."""
    more: bool
    """The tenants that were read have more due rows, or another replica claimed some at this moment."""
    cursor: str
    """The tenant after which the next claim continues; empty when all were read."""
    refused: bool
    """There are rows that were refused before, due or not."""


class Claims:
    """The claims of one relay. `lease` in seconds, `max_bytes` for one claim; one larger row is taken alone."""

    def __init__(self, database: Database, kinds: Sequence[str], *, lease: float, max_bytes: int) -> None:
        self._database = database
        self._kinds = list(kinds)
        self._lease = lease
        self._max_bytes = max_bytes

    async def fair(self, limit: int, *, after: str, without: Collection[str]) -> Claimed:
        """Rows that were never refused, of the tenants after `after` except those in `without`."""
        return await self._fetch(_CLAIM, limit, after, without)

    async def of(self, org_id: str, limit: int) -> Claimed:
        """Rows of one tenant that were never refused."""
        return await self._fetch(_CLAIM_OF, limit, [org_id], ())

    async def refused(self, limit: int, *, after: str, without: Collection[str]) -> Claimed:
        """Rows that the receiver refused before, tenants in turn."""
        return await self._fetch(_CLAIM_REFUSED, limit, after, without)

    async def _fetch(self, sql: str, limit: int, who: str | list[str], without: Collection[str]) -> Claimed:
        async with self._database.autocommit() as tx:
            found = await tx.fetch(sql, self._kinds, limit, self._lease, who, sorted(without), ORGS, self._max_bytes)
        # RETURNING has no guaranteed order.
        rows = sorted((OutboxRow(*list(each)[3:]) for each in found if each["id"] is not None), key=lambda row: row.id)
        return Claimed(rows, found[0]["more"], found[0]["cursor"] or "", found[0]["refused"])
