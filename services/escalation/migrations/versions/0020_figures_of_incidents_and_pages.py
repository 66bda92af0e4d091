"""Figures of incidents and pages, counted from the timeline, and how far it is counted.

Revision ID: 0020
Revises: 0019
"""

from alembic import op
from tocsin_kit.db.migrations import enable_row_security, run_script

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

_TABLES = ("counting_places", "counted_incidents", "incident_figures", "person_figures")


def upgrade() -> None:
    run_script(
        op,
        """CREATE TABLE counting_places (
             org_id text NOT NULL,
             server text NOT NULL,
             since timestamptz NOT NULL,
             transaction bigint NOT NULL,
             id bigint NOT NULL,
             count_time timestamptz NOT NULL DEFAULT app_now(),
             CONSTRAINT counting_places_pkey PRIMARY KEY (org_id)
           );
           CREATE TABLE counted_incidents (
             incident_id uuid NOT NULL,
             org_id text NOT NULL,
             create_time timestamptz NOT NULL,
             policy_id text NOT NULL,
             team text NOT NULL,
             severity smallint NOT NULL,
             acknowledged boolean NOT NULL DEFAULT false,
             resolved boolean NOT NULL DEFAULT false,
             exhausted boolean NOT NULL DEFAULT false,
             CONSTRAINT counted_incidents_pkey PRIMARY KEY (incident_id)
           );
           CREATE TABLE incident_figures (
             org_id text NOT NULL,
             quarter timestamptz NOT NULL,
             policy_id text NOT NULL,
             team text NOT NULL,
             severity smallint NOT NULL,
             opened bigint NOT NULL DEFAULT 0,
             acknowledged bigint NOT NULL DEFAULT 0,
             acknowledge_ms bigint NOT NULL DEFAULT 0,
             resolved bigint NOT NULL DEFAULT 0,
             resolve_ms bigint NOT NULL DEFAULT 0,
             exhausted bigint NOT NULL DEFAULT 0,
             CONSTRAINT incident_figures_pkey PRIMARY KEY (org_id, quarter, policy_id, team, severity)
           );
           CREATE INDEX incident_figures_by_time ON incident_figures (quarter);
           CREATE TABLE person_figures (
             org_id text NOT NULL,
             quarter timestamptz NOT NULL,
             user_id text NOT NULL,
             policy_id text NOT NULL,
             team text NOT NULL,
             pages bigint NOT NULL DEFAULT 0,
             acknowledged bigint NOT NULL DEFAULT 0,
             CONSTRAINT person_figures_pkey PRIMARY KEY (org_id, quarter, user_id, policy_id, team)
           );
           CREATE INDEX person_figures_by_time ON person_figures (quarter);""",
    )
    for table in _TABLES:
        enable_row_security(op, table)


def downgrade() -> None:
    run_script(op, "".join(f"DROP TABLE {table};" for table in reversed(_TABLES)))
