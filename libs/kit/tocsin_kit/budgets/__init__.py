"""Limits of a tenant over all replicas: rates, open streams, objects and waiting rows.

`limits`: the kinds; `budgets`: counting in one replica; `shares`: exchange between the replicas through Redis; `record`: limits
that operators set for a tenant, in PostgreSQL.
"""

from tocsin_kit.budgets.budgets import Budgets
from tocsin_kit.budgets.limits import BYTES, OBJECTS, OUTBOX_ROWS, RPCS, STREAMS, Limit, per_minute, per_second

__all__ = ["BYTES", "OBJECTS", "OUTBOX_ROWS", "RPCS", "STREAMS", "Budgets", "Limit", "per_minute", "per_second"]
