"""Subscriptions of an organisation to incident events, and what is delivered to them.

Revision ID: 0024
Revises: 0023
"""

from alembic import op
from tocsin_kit.db.migrations import enable_row_security, run_script

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE subscriptions (
  id uuid NOT NULL,
  org_id text NOT NULL,
  display_name text NOT NULL,
  url text NOT NULL,
  event_types text[] NOT NULL,
  policies text[] NOT NULL,
  least_severity smallint NOT NULL,
  disabled boolean NOT NULL,
  secret bytea NOT NULL,
  former_secret bytea,
  former_until timestamptz,
  creator text NOT NULL,
  failures integer NOT NULL DEFAULT 0,
  failing_since timestamptz,
  failure text NOT NULL DEFAULT '',
  resume_time timestamptz,
  stop_time timestamptz,
  proven boolean NOT NULL DEFAULT false,
  pending integer NOT NULL DEFAULT 0,
  lost integer NOT NULL DEFAULT 0,
  loss_time timestamptz,
  due_time timestamptz,
  version integer NOT NULL DEFAULT 1,
  create_time timestamptz NOT NULL DEFAULT app_now(),
  update_time timestamptz NOT NULL DEFAULT app_now(),
  CONSTRAINT subscriptions_pkey PRIMARY KEY (id),
  CONSTRAINT subscriptions_former CHECK ((former_secret IS NULL) = (former_until IS NULL)),
  CONSTRAINT subscriptions_failing CHECK ((failures = 0) = (failing_since IS NULL))
);
CREATE INDEX subscriptions_oldest ON subscriptions (org_id, create_time, id);
CREATE INDEX subscriptions_due ON subscriptions (due_time) WHERE due_time IS NOT NULL AND NOT disabled AND stop_time IS NULL;
CREATE TABLE event_deliveries (
  id uuid NOT NULL,
  org_id text NOT NULL,
  subscription uuid NOT NULL,
  incident uuid,
  sequence integer NOT NULL,
  type text NOT NULL,
  event bytea NOT NULL,
  state text NOT NULL,
  attempts integer NOT NULL DEFAULT 0,
  due_time timestamptz,
  lease_until timestamptz,
  since timestamptz NOT NULL DEFAULT app_now(),
  create_time timestamptz NOT NULL DEFAULT app_now(),
  end_time timestamptz,
  CONSTRAINT event_deliveries_pkey PRIMARY KEY (id),
  CONSTRAINT event_deliveries_subscription_fkey FOREIGN KEY (subscription) REFERENCES subscriptions (id) ON DELETE CASCADE,
  CONSTRAINT event_deliveries_state CHECK (state IN ('pending', 'sending', 'delivered', 'failed')),
  CONSTRAINT pending_delivery_has_due_time CHECK ((state = 'pending') = (due_time IS NOT NULL)),
  CONSTRAINT sending_delivery_has_lease CHECK ((state = 'sending') = (lease_until IS NOT NULL)),
  CONSTRAINT ended_delivery_has_end CHECK ((state IN ('delivered', 'failed')) = (end_time IS NOT NULL))
);
CREATE INDEX event_deliveries_waiting ON event_deliveries (subscription, create_time, sequence) WHERE end_time IS NULL;
CREATE INDEX event_deliveries_of_incident ON event_deliveries (subscription, incident, sequence);
CREATE INDEX event_deliveries_newest ON event_deliveries (subscription, create_time DESC, sequence DESC, id DESC);
CREATE INDEX event_deliveries_ended ON event_deliveries (end_time) WHERE end_time IS NOT NULL;
CREATE TABLE delivery_attempts (
  org_id text NOT NULL,
  delivery_id uuid NOT NULL,
  number integer NOT NULL,
  start_time timestamptz NOT NULL,
  end_time timestamptz NOT NULL DEFAULT app_now(),
  status integer NOT NULL,
  detail text NOT NULL,
  CONSTRAINT delivery_attempts_pkey PRIMARY KEY (delivery_id, number),
  CONSTRAINT delivery_attempts_delivery_fkey FOREIGN KEY (delivery_id) REFERENCES event_deliveries (id) ON DELETE CASCADE
);
"""


def upgrade() -> None:
    run_script(op, TABLES)
    for table in ("subscriptions", "event_deliveries", "delivery_attempts"):
        enable_row_security(op, table)


def downgrade() -> None:
    run_script(op, "DROP TABLE delivery_attempts; DROP TABLE event_deliveries; DROP TABLE subscriptions;")
