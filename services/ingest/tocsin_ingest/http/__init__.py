"""Formats of other systems: each is a file with a `decode` and a row in `routes.FORMATS`."""
