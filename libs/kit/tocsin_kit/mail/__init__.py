"""Mails in: an SMTP listener with bounds, a reader that no mail can make slow, and what every receiver answers."""
