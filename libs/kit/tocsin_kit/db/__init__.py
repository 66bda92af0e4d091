"""PostgreSQL: connections, transactions, migrations, idempotency, outbox."""
