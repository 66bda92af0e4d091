"""Idempotency of alerts, in sets: the same rows, with the same meaning, as `tocsin_kit.db.requests` makes one by one."""

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

from tocsin.ingest.v1.alert_service_pb2 import SendAlertRequest, SendAlertResponse
from tocsin_kit.db.pool import Tx

METHOD: Final = "tocsin.ingest.v1.AlertService/SendAlert"
"""An alert is one request however it came: alone, in a batch or on a stream."""


@dataclass(frozen=True, slots=True)
class Stored:
    """The first answer to a request_id, and what it was asked with."""

    body_hash: bytes
    response: SendAlertResponse


def body_hash(request: SendAlertRequest) -> bytes:
    """Tells whether two requests with one id are the same."""
    return hashlib.sha256(request.SerializeToString(deterministic=True)).digest()


async def recall(tx: Tx, request_ids: Collection[str]) -> dict[str, Stored]:
    """Those of the ids that are known: a day's worth."""
    rows = await tx.fetch(
        """SELECT request_id, body_hash, response FROM requests
        WHERE org_id = $1 AND method = $2 AND request_id = ANY($3)""",
        tx.org_id,
        METHOD,
        list(request_ids),
    )
    return {row["request_id"]: Stored(row["body_hash"], SendAlertResponse.FromString(row["response"])) for row in rows}


async def remember(tx: Tx, made: Mapping[str, Stored]) -> None:
    """Keeps the answers. A unique violation means that another transaction took one of the ids meanwhile."""
    ids = sorted(made)
    await tx.execute(
        """INSERT INTO requests (org_id, method, request_id, body_hash, response)
        SELECT $1, $2, * FROM unnest($3::text[], $4::bytea[], $5::bytea[])""",
        tx.org_id,
        METHOD,
        ids,
        [made[each].body_hash for each in ids],
        [made[each].response.SerializeToString() for each in ids],
    )
