from tests.store.ingest.support import database, database_url, emptied, escalation, ingest

__all__ = ["database", "database_url", "emptied", "escalation", "ingest"]
