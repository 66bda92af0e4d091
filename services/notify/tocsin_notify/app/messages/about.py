"""The incident that a message names: a message about an incident that the tenant does not have is refused before it is
stored.

Only escalation knows the incidents. While it does not answer, the message is accepted unchecked: its text matters more
than the incident it names.
"""

from collections.abc import Iterable
from typing import Final
from uuid import UUID

import grpc
from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin_kit.errors import FieldViolation, TocsinError
from tocsin_kit.ids import parse_uuid_name
from tocsin_kit.logging import get_logger

from tocsin_notify.clients.escalation import Escalation

_log = get_logger(__name__)

_COLLECTION: Final = "incidents"


def is_incident(about: str) -> bool:
    """Whether it names an incident; alerts belong to ingest and are not checked."""
    return about.startswith(f"{_COLLECTION}/")


async def missing_incidents(
    escalation: Escalation, org_id: str, names: Iterable[str], *, of: str = "message"
) -> dict[str, TocsinError]:
    """Those of these incidents that the tenant does not have, each with its error: INCIDENT_NOT_FOUND.

    Asked before the transaction that stores the names, for the field `of`.
    """
    missing: dict[str, TocsinError] = {}
    ids: dict[UUID, str] = {}
    for name in filter(is_incident, dict.fromkeys(names)):
        try:
            ids[parse_uuid_name(name, _COLLECTION)] = name
        except TocsinError:
            missing[name] = _unknown(name, of)
    if ids:
        try:
            unknown = await escalation.unknown(org_id, list(ids))
        except TocsinError as error:
            _log.warning("about_not_looked_up", org_id=org_id, incidents=len(ids), error=error.message)
            unknown = frozenset()
        missing |= {ids[id]: _unknown(ids[id], of) for id in unknown}
    return missing


async def require_incident(escalation: Escalation, org_id: str, about: str, *, of: str = "message") -> None:
    """Raises the error of `missing_incidents` if the incident does not exist."""
    for error in (await missing_incidents(escalation, org_id, [about], of=of)).values():
        raise error


def _unknown(name: str, of: str) -> TocsinError:
    why = f"{name} does not exist: name one as ListIncidents shows it, or leave this out"
    return TocsinError(
        ErrorReason.ERROR_REASON_INCIDENT_NOT_FOUND,
        f"{of}.about: {why}",
        code=grpc.StatusCode.INVALID_ARGUMENT,
        metadata={"name": name},
        fields=[FieldViolation(f"{of}.about", why)],
    )
