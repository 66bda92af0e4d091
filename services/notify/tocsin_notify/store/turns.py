"""SQL that takes what is due of all tenants: when it is more than one round takes, the tenants take turns."""


def taken_in_turns(
    table: str, *, time: str, living: str, due: str, key: str = "id", what: str = "", passing_over: bool = True
) -> str:
    """CTEs for behind WITH RECURSIVE. `taken` has `what` of up to $1 rows, locked, in the order of its columns turn and place.

    `key` is a column that has one value for each row, and `what`, where it is not given. An index has `key` alone, another one
    `time` and it, and a third one org_id, `time` and it; each has what is `living`. Only a transaction that walks indexes
    (`Database.claim`) reads no more than is said here. Without `passing_over` nothing is locked: the caller locks in its own order.

    Up to $1 due rows come by their `time`. Of more, one of every tenant comes before the second of any. The tenants are found by
    hopping from one to the next in an index on org_id that has what is `living`. Of each that has something due no more is read
    than four times its share of $1, and two: so a round costs what it takes, however much is due. What another transaction holds
    is passed over, and others are taken in its place. A round may take less than $1 although more is due: when few of many
    tenants have much.
    """
    first = f"SELECT {key}, {time} AS place FROM {table} WHERE {living} AND {due}"
    # Rows are compared as a whole, and the order names the tenant: with `org_id = …` the planner may as well take an index of what
    # is due of all tenants, and does so while statistics say that nothing is. It would read all of that for each tenant.
    of_tenant = f"""{first} AND ({table}.org_id, {time}) >= ({{of}}.org_id, '-infinity')
    AND ({table}.org_id, {time}) <= ({{of}}.org_id, 'infinity') ORDER BY {table}.org_id, {time}, {key}"""
    # By their keys, and by no index of what is due: what lies behind IS TRUE fits none.
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
