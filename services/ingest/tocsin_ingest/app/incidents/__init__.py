"""Open incidents: resolved, and compared with escalation's."""
