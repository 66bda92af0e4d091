from tests.store.ingest.support import database, database_url, escalation, ingest, postgres

__all__ = ["database", "database_url", "escalation", "ingest", "postgres"]
