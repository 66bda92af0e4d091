"""Mails in: an SMTP listener, off unless it is set, in front of the same use case as every other way in."""
