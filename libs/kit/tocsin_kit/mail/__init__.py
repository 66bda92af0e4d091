"""Received mails: an SMTP listener with limits, a reader that no mail can slow down, and the answers of every receiver."""
