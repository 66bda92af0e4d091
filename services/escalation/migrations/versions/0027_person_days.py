"""Figures of users by whole days beside those of the quarters of an hour.

The rows follow from `person_figures`, and triggers keep them: also what a replica of the version before counts is in them.

Revision ID: 0027
Revises: 0026
"""

from alembic import op
from tocsin_kit.db.migrations import enable_row_security, run_script

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None

_KEYS = "org_id, day, user_id, policy_id, team"
_DAYS = """SELECT f.org_id, (f.quarter AT TIME ZONE 'UTC')::date AS day, f.user_id, f.policy_id, f.team,
    sum({pages})::bigint AS pages, sum({acknowledged})::bigint AS acknowledged,
    bit_or(set_bit(repeat('0', 96)::bit(96), extract(epoch FROM (f.quarter AT TIME ZONE 'UTC')::time)::int / 900,
      (f.pages > 0)::int)) AS quarters
  FROM {source} GROUP BY 1, 2, 3, 4, 5"""
_WHOLE = {"pages": "f.pages", "acknowledged": "f.acknowledged"}
_MORE = {"pages": "f.pages - g.pages", "acknowledged": "f.acknowledged - g.acknowledged"}
_ADD = f"""INSERT INTO person_days AS d ({_KEYS}, pages, acknowledged, quarters)
  {{days}} ORDER BY 1, 2, 3, 4, 5
  ON CONFLICT ({_KEYS}) DO UPDATE SET pages = d.pages + excluded.pages, acknowledged = d.acknowledged + excluded.acknowledged,
    quarters = d.quarters | excluded.quarters"""

SCRIPT = f"""
CREATE TABLE person_days (
  org_id text NOT NULL,
  day date NOT NULL,
  user_id text NOT NULL,
  policy_id text NOT NULL,
  team text NOT NULL,
  pages bigint NOT NULL,
  acknowledged bigint NOT NULL,
  quarters bit(96) NOT NULL,
  CONSTRAINT person_days_pkey PRIMARY KEY ({_KEYS})
);
COMMENT ON COLUMN person_days.day IS 'Of UTC';
COMMENT ON COLUMN person_days.quarters IS 'Those of the day in which pages were sent';
CREATE FUNCTION count_person_days() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'INSERT' THEN
    {_ADD.format(days=_DAYS.format(source="written f", **_WHOLE))};
  ELSIF TG_OP = 'UPDATE' THEN
    {_ADD.format(days=_DAYS.format(source="written f JOIN gone g USING (org_id, quarter, user_id, policy_id, team)", **_MORE))};
  ELSE
    WITH days AS ({_DAYS.format(source="gone f", **_WHOLE)})
    UPDATE person_days d SET pages = d.pages - g.pages, acknowledged = d.acknowledged - g.acknowledged,
      quarters = d.quarters & ~g.quarters
    FROM days g WHERE (d.org_id, d.day, d.user_id, d.policy_id, d.team) = (g.org_id, g.day, g.user_id, g.policy_id, g.team);
    DELETE FROM person_days d USING gone g
    WHERE (d.org_id, d.user_id, d.policy_id, d.team) = (g.org_id, g.user_id, g.policy_id, g.team)
      AND d.day = (g.quarter AT TIME ZONE 'UTC')::date AND d.pages = 0 AND d.acknowledged = 0;
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER person_figures_added AFTER INSERT ON person_figures REFERENCING NEW TABLE AS written
  FOR EACH STATEMENT EXECUTE FUNCTION count_person_days();
CREATE TRIGGER person_figures_changed AFTER UPDATE ON person_figures REFERENCING NEW TABLE AS written OLD TABLE AS gone
  FOR EACH STATEMENT EXECUTE FUNCTION count_person_days();
CREATE TRIGGER person_figures_deleted AFTER DELETE ON person_figures REFERENCING OLD TABLE AS gone
  FOR EACH STATEMENT EXECUTE FUNCTION count_person_days();
SET LOCAL tocsin.org_id = '*';
{_ADD.format(days=_DAYS.format(source="person_figures f", **_WHOLE))};
"""


def upgrade() -> None:
    run_script(op, SCRIPT)
    enable_row_security(op, "person_days")


def downgrade() -> None:
    run_script(
        op,
        """DROP TRIGGER person_figures_added ON person_figures;
           DROP TRIGGER person_figures_changed ON person_figures;
           DROP TRIGGER person_figures_deleted ON person_figures;
           DROP FUNCTION count_person_days();
           DROP TABLE person_days;""",
    )
