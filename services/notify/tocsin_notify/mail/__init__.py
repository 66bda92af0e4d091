"""Mails in: an SMTP listener, off unless it is set, by which a person answers a page by a reply to its mail."""
