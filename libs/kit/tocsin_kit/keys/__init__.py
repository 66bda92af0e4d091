"""API keys of machines, and what ends a credential before its time: one service keeps the record, all of them follow it."""
