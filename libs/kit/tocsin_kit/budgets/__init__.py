"""What one tenant may use, over all replicas: rates, open streams, objects and waiting rows.

`limits`: the kinds; `budgets`: counting in one replica; `shares`: what the replicas tell each other through Redis; `record`: what
operators chose for a tenant, in PostgreSQL.
"""

from tocsin_kit.budgets.budgets import Budgets
from tocsin_kit.budgets.limits import BYTES, OBJECTS, OUTBOX_ROWS, RPCS, STREAMS, Limit, per_minute, per_second

__all__ = ["BYTES", "OBJECTS", "OUTBOX_ROWS", "RPCS", "STREAMS", "Budgets", "Limit", "per_minute", "per_second"]
