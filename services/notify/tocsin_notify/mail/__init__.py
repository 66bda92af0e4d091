"""Received mails: an SMTP listener, off by default, through which a person answers a page by a reply to its mail."""
