"""Messages that are no pages, connected. A part of `wiring`."""

from tocsin_notify.app.messages.groups import DivideGroups
from tocsin_notify.app.messages.messages import Messages, limits
from tocsin_notify.app.messages.recurring import Recur, RecurringMessages
from tocsin_notify.rpc.message_service import MessageService
from tocsin_notify.rpc.recurring_message_service import RecurringMessageService
from tocsin_notify.wiring.base import Base


def serve_messages(base: Base) -> None:
    """Add the services, and the loops that make messages of what recurs and of groups. `Delivering` sends what is due."""
    settings, db, loops, looks = base.settings, base.db, base.runtime.loops, base.looks
    for limit in limits(settings.tenant_addressed_messages_per_minute, settings.tenant_scheduled_messages):
        base.budgets.add(limit)
    countries = frozenset(filter(None, settings.message_countries.split(",")))
    messages = Messages(base.hints, base.budgets, countries=countries, missing=base.missing, notes=base.journal)
    recurring = RecurringMessages(messages, base.budgets)
    base.runtime.rpc.add(RecurringMessageService(db, recurring, base.page_tokens, base.escalation))
    base.runtime.rpc.add(MessageService(db, messages, base.page_tokens, base.escalation))
    divide = DivideGroups(db, base.escalation, base.hints, base.metrics)
    loops.add("group-messages", looks.sweep("messages", divide.everything))
    loops.add("recurring-messages", looks.sweep("recurring_messages", Recur(db, base.hints, base.journal).everything))
