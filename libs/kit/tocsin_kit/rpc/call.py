"""The current call: the caller, the method, and the deadline."""

import os
import re
import time
from contextvars import ContextVar
from typing import Final

from google.protobuf.message import Message
from tocsin.errors.v1.error_reason_pb2 import ErrorReason

from tocsin_kit.auth import ALL_ORGS, INTERNAL, Principal
from tocsin_kit.errors import TocsinError

TRACEPARENT: Final = "traceparent"
_TRACEPARENT: Final = re.compile("[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
_NO_TRACE: Final = "0" * 32


class Call:
    """One RPC in flight. Made by the pipeline once the caller is known; read it with `current_call()`."""

    __slots__ = ("before", "beside", "deadline", "handling", "method", "principal", "trace_id")

    def __init__(self, method: str, principal: Principal, trace_id: str, deadline: float | None) -> None:
        self.method: Final = method
        """Full name: `tocsin.widgets.v1.WidgetService/GetWidget`."""
        self.principal: Final = principal
        self.trace_id: Final = trace_id
        """32 hex digits (W3C trace context), the caller's or a new one."""
        self.deadline: Final = deadline
        """On `time.monotonic()`'s scale; None for a stream without one."""
        self.before: Message | None = None
        """The state before the change, for the audit log; see `note_before`."""
        self.beside: tuple[tuple[str, bytes], ...] = ()
        """What is sent beside the answer, as trailing metadata; see `tocsin_kit.rpc.beside`."""
        self.handling = False
        """Whether the handler of a unary call has begun. Before that, a refusal did not depend on the request."""

    @property
    def org_id(self) -> str:
        """The caller's tenant. `*` for Tocsin's own services: those name the tenant, see `acting_for`."""
        return self.principal.org_id

    @property
    def subject(self) -> str:
        """The caller, for records: `users/ana`, `services/escalation`."""
        return self.principal.subject

    def remaining(self) -> float | None:
        """Seconds until the caller stops waiting; None when it waits for ever."""
        return None if self.deadline is None else self.deadline - time.monotonic()

    def require_internal(self) -> None:
        """Raises SCOPE_MISSING unless the caller is one of Tocsin's own services."""
        if INTERNAL not in self.principal.scopes:
            raise scope_missing(INTERNAL)
        if self.principal.org_id != ALL_ORGS:
            raise operators_only(INTERNAL)

    def require_own(self, owner: str, scope: str) -> None:
        """Raises SCOPE_MISSING unless the caller is `owner`, or may change what belongs to other users: it has the method's
        `scope`."""
        if scope not in self.principal.scopes and owner != self.principal.subject:
            raise TocsinError(
                ErrorReason.ERROR_REASON_SCOPE_MISSING,
                f"it is not the credential's own: {self.principal.subject} lacks the scope {scope}",
                metadata={"scope": scope},
            )

    def acting_for(self, org_id: str) -> str:
        """The tenant a message of Tocsin's own services names. Other callers may not name one: SCOPE_MISSING."""
        self.require_internal()
        return org_id

    def fields(self) -> dict[str, str]:
        """The fields of every log line within this call."""
        return {
            "trace_id": self.trace_id,
            "method": self.method,
            "org_id": self.principal.org_id,
            "subject": self.principal.subject,
        }

    def traceparent(self) -> str:
        """The header that carries the trace on to the next service."""
        return traceparent(self.trace_id)


_current: ContextVar[Call] = ContextVar("tocsin_call")


def current_call() -> Call:
    """The current call. LookupError outside of one: a loop has no caller."""
    return _current.get()


def find_call() -> Call | None:
    """The current call, or None in a loop."""
    return _current.get(None)


def tenant() -> str:
    """The tenant of the current call. Raises SCOPE_MISSING for a credential of all tenants: it owns no resources."""
    org_id = current_call().org_id
    if org_id == ALL_ORGS:
        raise TocsinError(
            ErrorReason.ERROR_REASON_SCOPE_MISSING, "this credential stands for all tenants; use one of a single tenant"
        )
    return org_id


def note_before(resource: Message) -> None:
    """Note the state of a resource that the current call is about to change or delete: a copy is written to the audit log.

    Called inside the work of `tocsin_kit.db.requests.once`. Outside of a call nothing is noted.
    """
    call = find_call()
    if call is not None:
        call.before = type(resource)()
        call.before.CopyFrom(resource)


def enter(call: Call) -> None:
    """Make `call` current for the rest of this task. gRPC serves every call in a task of its own."""
    _current.set(call)


def trace_id_of(header: str | None) -> str:
    """The trace id in a `traceparent` header, or a new random one when there is none that is well-formed."""
    if header is not None:
        match = _TRACEPARENT.match(header)
        if match is not None and match.group(1) != _NO_TRACE:
            return match.group(1)
    return os.urandom(16).hex()


def traceparent(trace_id: str) -> str:
    """A W3C trace context header with a new span."""
    return f"00-{trace_id}-{os.urandom(8).hex()}-01"


def scope_missing(scope: str) -> TocsinError:
    """SCOPE_MISSING; the text does not depend on the resource (AIP-211)."""
    return TocsinError(
        ErrorReason.ERROR_REASON_SCOPE_MISSING,
        f"the credential lacks the scope {scope}",
        metadata={"scope": scope},
    )


def operators_only(scope: str) -> TocsinError:
    """SCOPE_MISSING for a tenant's credential, whose scopes cannot reach beyond its tenant."""
    return TocsinError(
        ErrorReason.ERROR_REASON_SCOPE_MISSING,
        f"the call is about the whole installation: the scope {scope} counts only in an operator's credential (org *)",
        metadata={"scope": scope},
    )


def tenants_only(scope: str) -> TocsinError:
    """SCOPE_MISSING for an operator's credential: the method acts on the caller's tenant, and it names none."""
    return TocsinError(
        ErrorReason.ERROR_REASON_SCOPE_MISSING,
        f"the call is about one tenant: the scope {scope} counts only in a credential of that tenant, not of all (org *)",
        metadata={"scope": scope},
    )
