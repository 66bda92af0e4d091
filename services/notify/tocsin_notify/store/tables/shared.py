"""The tables that the kit works on, in this database."""

from typing import Final

from tocsin_kit.db import tables as kit

from tocsin_notify.store.tables.metadata import METADATA

outbox: Final = kit.outbox(METADATA)
requests: Final = kit.requests(METADATA)
audit_entries: Final = kit.audit_entries(METADATA)
audit_resources: Final = kit.audit_resources(METADATA)
tenant_limits: Final = kit.tenant_limits(METADATA)
queue_pauses: Final = kit.queue_pauses(METADATA)
queue_options: Final = kit.queue_options(METADATA)
