"""Rules about mails, compiled."""

from typing import Final, cast

from tocsin.ingest.v1.integration_service_pb2 import MailRules

from tocsin_ingest.app.integrations.compile_rules import compile_expressions
from tocsin_ingest.domain.mails import Condition, Expression, Rules

MAX_PROGRAM: Final = 2000
"""Instructions of all expressions together: on a whole body they take some 30 ms."""
_FIELDS: Final = ("resolve_subject", "resolve_body", "open_subject", "open_body")


def compile_mail(rules: MailRules, place: str = "integration.mail") -> Rules:
    """Raises INVALID_FIELD naming each expression that RE2 refuses, or the one with which they are too expensive."""
    given = {f"{place}.{field}": getattr(rules, field) for field in _FIELDS}
    compiled = compile_expressions(given, MAX_PROGRAM)

    def condition(kind: str) -> Condition:
        subject, body = (compiled.get(f"{place}.{kind}_{part}") for part in ("subject", "body"))
        # RE2's patterns search as well as they match.
        return Condition(cast(Expression | None, subject), cast(Expression | None, body))

    resolves = condition("resolve") if rules.resolve_subject or rules.resolve_body else None
    return Rules(resolves, condition("open"), rules.take_automatic)
