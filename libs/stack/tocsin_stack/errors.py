"""The one error this package raises for what a person at the keyboard can mend."""


class StackError(Exception):
    """A server or service could not be provisioned, started or kept running; the message says why and what to do."""
