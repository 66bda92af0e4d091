"""What runs without a caller: the relay to escalation, retention."""
