"""SQL that takes what is due of all tenants: when it is more than one round takes, the tenants take turns."""


def taken_in_turns(table: str, *, time: str, living: str, due: str, what: str = "id") -> str:
    """CTEs for behind WITH RECURSIVE. `taken` has `what` of up to $1 rows, locked, in the order of its columns turn and place.
    A transaction that walks indexes (`Database.claim`) reads several times less.

    Up to $1 due rows come by their `time`. Of more, one of every tenant comes before the second of any. The tenants are found by
    hopping from one to the next in an index on org_id that has what is `living`. Of each that has something due no more is read
    than four times its share of $1, and two: so a round costs what it takes, however much is due. What another transaction holds
    is passed over, and others are taken in its place. A round may take less than $1 although more is due: when few of many
    tenants have much.
    """
    first = f"SELECT id, {time} AS place FROM {table} WHERE {living} AND {due}"
    # Rows are compared as a whole, and the order names the tenant: with `org_id = …` the planner may as well take an index of what
    # is due of all tenants, and does so while statistics say that nothing is. It would read all of that for each tenant.
    of_tenant = f"""{first} AND ({table}.org_id, {time}) >= ({{of}}.org_id, '-infinity')
    AND ({table}.org_id, {time}) <= ({{of}}.org_id, 'infinity') ORDER BY {table}.org_id, {time}, id"""
    # By their ids, and by no index of what is due: what lies behind IS TRUE fits none.
    return f"""oldest AS MATERIALIZED (
  SELECT id, place, row_number() OVER (ORDER BY place, id) AS turn FROM ({first} ORDER BY {time}, id LIMIT $1 + 1) AS mine
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
  SELECT id, place, row_number() OVER (PARTITION BY crowd.org_id ORDER BY place, id)
  FROM crowd CROSS JOIN LATERAL ({of_tenant.format(of="crowd")} LIMIT crowd.share) AS mine
), taken AS (
  SELECT {what}, turn, place FROM turns JOIN {table} USING (id)
  WHERE id = ANY(ARRAY(SELECT id FROM turns)) AND ({living} AND {due}) IS TRUE
  ORDER BY turn, place, id LIMIT $1 FOR UPDATE OF {table} SKIP LOCKED
)"""
