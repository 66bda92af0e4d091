"""SQL that takes what is due of all tenants: when it is more than one round takes, the tenants take turns."""


def taken_in_turns(table: str, *, time: str, living: str, due: str, what: str = "id") -> str:
    """CTEs for behind WITH RECURSIVE. `taken` has `what` of up to $1 rows, locked, in the order of its columns turn and place.

    Up to $1 due rows come by their `time`. Of more, one of every tenant comes before the second of any. The tenants are found by
    hopping from one to the next in an index on org_id that has what is `living`, so one with very many rows costs no more than one
    with twice $1. What another transaction holds is passed over, and others are taken in its place.
    """
    first = f"SELECT id, {time} AS place FROM {table} WHERE {living} AND {due}"
    return f"""oldest AS MATERIALIZED (
  SELECT id, place, row_number() OVER (ORDER BY place, id) AS turn FROM ({first} ORDER BY {time}, id LIMIT $1 + 1) AS mine
), orgs AS (
  (SELECT org_id FROM {table} WHERE {living} AND (SELECT count(*) FROM oldest) > $1 ORDER BY org_id LIMIT 1)
  UNION ALL
  SELECT (SELECT x.org_id FROM {table} AS x WHERE {living} AND x.org_id > orgs.org_id ORDER BY x.org_id LIMIT 1)
  FROM orgs WHERE orgs.org_id IS NOT NULL
), turns AS MATERIALIZED (
  SELECT * FROM oldest WHERE (SELECT count(*) FROM oldest) <= $1
  UNION ALL
  SELECT id, place, row_number() OVER (PARTITION BY orgs.org_id ORDER BY place, id) FROM orgs CROSS JOIN LATERAL (
    {first} AND {table}.org_id = orgs.org_id ORDER BY {time}, id LIMIT 2 * $1) AS mine
), taken AS (
  SELECT {what}, turn, place FROM turns JOIN {table} USING (id)
  WHERE {living} AND {due} ORDER BY turn, place, id LIMIT $1 FOR UPDATE OF {table} SKIP LOCKED
)"""
