"""What was closed before there were partitions becomes one.

Revision ID: 0022
Revises: 0021
"""

from alembic import op
from tocsin_kit.db.migrations import run_script

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None

# The constraint is validated while the table is not in use, so that attaching it needs no scan under a lock. A transaction that
# began before the tables were exchanged may have closed something at a time that is this partition's by now; it is in `rest`.
ATTACH = """
SET LOCAL tocsin.org_id = '*';
SET LOCAL statement_timeout = 0;
DO $$
DECLARE
  kind text; over timestamptz;
BEGIN
  FOREACH kind IN ARRAY ARRAY['incidents', 'alerts'] LOOP
    EXECUTE format($q$SELECT max(resolve_time) + interval '1 microsecond' FROM parts.%s_before WHERE state = 'resolved'$q$, kind)
      INTO over;
    IF over IS NULL THEN
      EXECUTE format('DROP TABLE parts.%s_before', kind);
      CONTINUE;
    END IF;
    EXECUTE format($q$ALTER TABLE parts.%1$s_before ADD CONSTRAINT %1$s_before_over
      CHECK (state = 'resolved' AND resolve_time IS NOT NULL AND resolve_time < %2$L) NOT VALID$q$, kind, over);
    EXECUTE format('ALTER TABLE parts.%1$s_before VALIDATE CONSTRAINT %1$s_before_over', kind);
    EXECUTE format('LOCK TABLE parts.%s_rest IN ACCESS EXCLUSIVE MODE', kind);
    EXECUTE format('WITH late AS (DELETE FROM parts.%1$s_rest WHERE resolve_time < %2$L RETURNING *)
      INSERT INTO parts.%1$s_before SELECT * FROM late', kind, over);
    EXECUTE format('ALTER TABLE parts.%1$s_resolved ATTACH PARTITION parts.%1$s_before
      FOR VALUES FROM (MINVALUE) TO (%2$L)', kind, over);
  END LOOP;
END
$$;
"""


def upgrade() -> None:
    """One scan of the history, beside the senders."""
    run_script(op, ATTACH)


def downgrade() -> None:
    """There is none: the code before works on this schema."""
    raise NotImplementedError
