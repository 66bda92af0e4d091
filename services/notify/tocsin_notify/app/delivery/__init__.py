"""Delivery: due notifications are claimed, sent and concluded; a failed one goes to the next contact method."""
