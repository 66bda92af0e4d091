"""Tables and queries: rows in, domain out. Every query names its tenant, although row-level security enforces it too."""
