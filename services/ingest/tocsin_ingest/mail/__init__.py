"""Received mails: an SMTP listener, off by default, in front of the same use case as all other listeners."""
