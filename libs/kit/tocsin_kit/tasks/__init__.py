"""The tasks of a queue: rows that operators list, read, promote, retry, remove and drain."""
