from tests.store.ingest.silenced import clock, org, replica
from tests.store.ingest.support import database, database_url, emptied, escalation, ingest

__all__ = ["clock", "database", "database_url", "emptied", "escalation", "ingest", "org", "replica"]
