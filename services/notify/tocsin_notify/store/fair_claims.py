"""SQL that claims due rows of all tenants: if more rows are due than one round takes, the tenants alternate."""


def fairly_taken(
    table: str, *, time: str, living: str, due: str, key: str = "id", what: str = "", passing_over: bool = True
) -> str:
    """CTEs to follow WITH RECURSIVE. `taken` has `what` of up to $1 rows, locked, in the order of its columns turn and
    place.

    `key` is a column that has one value for each row, and `what`, where it is not given. Three indexes are needed: on
    `key`; on `time` and `key`; and on org_id, `time` and `key`. Each covers the rows that are `living`. The limits hold
    only in a transaction that prefers index scans (`Database.claim`). Without `passing_over` nothing is locked: the
    caller locks in its own order.

    Up to $1 due rows are taken by their `time`. If more are due, one row of every tenant is taken before the second of
    any. The tenants are found by jumping from one to the next in an index on org_id that covers the rows that are
    `living`. Of each tenant with due rows, at most four times its share of $1, and two, are read. So the cost of a
    round depends on what it takes, not on how much is due. Rows that another transaction holds are skipped, and others
    are taken in their place. A round may take less than $1 although more is due: when few of many tenants have many
    rows.
    """
    first = f"SELECT {key}, {time} AS place FROM {table} WHERE {living} AND {due}"
    # Rows are compared as a whole, and the order names the tenant. With `org_id = …` the planner may use an index of
    # the due rows of all tenants, and does so while statistics say that nothing is due. It would read all of these rows
    # for each tenant.
    of_tenant = f"""{first} AND ({table}.org_id, {time}) >= ({{of}}.org_id, '-infinity')
    AND ({table}.org_id, {time}) <= ({{of}}.org_id, 'infinity') ORDER BY {table}.org_id, {time}, {key}"""
    # Found by their keys, and by no index of due rows: the condition after IS TRUE fits none.
    return f"""oldest AS MATERIALIZED (
  SELECT {key}, place, row_number() OVER (ORDER BY place, {key}) AS turn FROM ({first} ORDER BY {time}, {key} LIMIT $1 + 1) AS mine
), orgs AS (
  (SELECT org_id FROM {table} WHERE {living} AND (SELECT count(*) FROM oldest) > $1 ORDER BY org_id LIMIT 1)
  UNION ALL
  SELECT (SELECT x.org_id FROM {table} AS x WHERE {living} AND x.org_id > orgs.org_id ORDER BY x.org_id LIMIT 1)
  FROM orgs WHERE orgs.org_id IS NOT NULL
), crowd AS MATERIALIZED (
  SELECT org_id, least(2 * $1, 4 * $1 / count(*) OVER () + 2) AS share
  FROM orgs CROSS JOIN LATERAL ({of_tenant.format(of="orgs")} LIMIT 1) AS something
), turns AS MATERIALIZED (
  SELECT * FROM oldest WHERE (SELECT count(*) FROM oldest) <= $1
  UNION ALL
  SELECT {key}, place, row_number() OVER (PARTITION BY crowd.org_id ORDER BY place, {key})
  FROM crowd CROSS JOIN LATERAL ({of_tenant.format(of="crowd")} LIMIT crowd.share) AS mine
), taken AS (
  SELECT {what or key}, turn, place FROM turns JOIN {table} USING ({key})
  WHERE {key} = ANY(ARRAY(SELECT {key} FROM turns)) AND {key} IS NOT NULL AND ({living} AND {due}) IS TRUE
  ORDER BY turn, place, {key} LIMIT $1 {f"FOR UPDATE OF {table} SKIP LOCKED" if passing_over else ""}
)"""
