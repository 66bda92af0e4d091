from tests.store.ingest.support import database, database_url, escalation, ingest

__all__ = ["database", "database_url", "escalation", "ingest"]
