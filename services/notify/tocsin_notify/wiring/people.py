"""Contact methods and what their owners are told, connected. A part of `wiring`."""

from dataclasses import dataclass

from tocsin_notify.app.contacts.code_limits import SERVICE, CodeLimits
from tocsin_notify.app.contacts.contacts import Contacts
from tocsin_notify.app.contacts.owner_notices import OwnerNotices
from tocsin_notify.channels.base import Vetting
from tocsin_notify.rpc.contact_service import ContactService
from tocsin_notify.wiring.base import Base


@dataclass(frozen=True, slots=True)
class People:
    """One object per process."""

    contacts: Contacts
    notices: OwnerNotices
    code_limits: CodeLimits


def serve_people(base: Base) -> People:
    """Add the service."""
    notices = OwnerNotices(base.cipher, base.hints, base.budgets)
    contacts = Contacts(
        base.db,
        base.cipher,
        base.hints,
        base.failures,
        notices,
        allow_private_webhooks=base.settings.allow_private_webhooks,
        missing=base.missing,
        vetting={name: each for name, each in base.channels.items() if isinstance(each, Vetting)},
    )
    code_limits = CodeLimits(base.cipher.code_key, base.runtime.metrics)
    base.share(code_limits.budgets, SERVICE)
    base.runtime.rpc.add(
        ContactService(
            base.db,
            contacts,
            base.cipher,
            base.hints,
            base.page_tokens,
            base.budgets,
            notices,
            base.settings.bundling,
            code_limits,
        )
    )
    return People(contacts, notices, code_limits)
