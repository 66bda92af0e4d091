"""API keys of machines, and revocations of credentials: one service keeps the record, and all services follow it."""
