"""Templates: checked, stored, and previewed with a message before they are stored."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin_kit.db.pool import Tx
from tocsin_kit.errors import TocsinError, invalid, not_found
from tocsin_kit.ids import new_id
from tocsin_kit.rpc.masks import etag, require_etag

from tocsin_notify.app.messages.wordings import Wordings
from tocsin_notify.domain.page import Kind
from tocsin_notify.domain.template import MOST_BYTES, BadTemplate, Part, Wording
from tocsin_notify.store.messages import templates as store
from tocsin_notify.store.messages.templates import TemplateRow
from tocsin_notify.templates.language import compile_template
from tocsin_notify.templates.samples import extremes
from tocsin_notify.templates.variables import KNOWN, NAMES, values_of

_LIMIT: Final = "template_bytes"


@dataclass(frozen=True, slots=True)
class TemplateInput:
    """What a caller asks a template to be. `language` empty: for users of any language."""

    kind: Kind
    language: str
    parts: Wording


class Templates:
    """Use cases on templates; each runs in the caller's transaction, after `check`."""

    def __init__(self, wordings: Wordings) -> None:
        self._wordings = wordings

    async def create(self, tx: Tx, given: TemplateInput) -> TemplateRow:
        """A new one. Raises ALREADY_EXISTS, LIMIT_REACHED."""
        await self._begin(tx)
        made = await store.insert(tx, new_id(), given.kind, given.language, given.parts)
        if made is None:
            raise TocsinError(
                ErrorReason.ERROR_REASON_ALREADY_EXISTS,
                "there is a template for these messages and this language already: change that one",
                metadata={"name": f"{given.kind} {given.language}".strip()},
            )
        await _require_room(tx)
        return made

    async def update(self, tx: Tx, id: UUID, given: str, version: int, parts: Mapping[Part, str]) -> TemplateRow:
        """Its new parts, which were made of its `version`. `given`: the caller's etag.

        Raises TEMPLATE_NOT_FOUND, ETAG_MISMATCH, LIMIT_REACHED.
        """
        await self._begin(tx)
        now = await find(tx, id, lock=True)
        require_etag(given, now.version)
        require_etag(etag(version), now.version)
        after = await store.update(tx, id, parts)
        await _require_room(tx)
        return after

    async def delete(self, tx: Tx, id: UUID, given: str) -> TemplateRow:
        """Answers what it was. Raises TEMPLATE_NOT_FOUND, ETAG_MISMATCH."""
        await self._begin(tx)
        before = await find(tx, id, lock=True)
        require_etag(given, before.version)
        await store.delete(tx, id)
        return before

    async def _begin(self, tx: Tx) -> None:
        version = await store.begin(tx)
        tx.after_commit(lambda: self._wordings.changed(tx.org_id, version))


async def check(given: TemplateInput) -> None:
    """Raises INVALID_FIELD for a template that is unusable or names an unknown variable. It takes a while, so call it
    outside of a transaction."""
    if not given.parts:
        raise invalid("template", f"must have a text: {', '.join(Part)}")
    await asyncio.to_thread(_check, given)


def _check(given: TemplateInput) -> None:
    for part, source in given.parts.items():
        field = f"template.{part}"
        try:
            compiled = compile_template(source, html=part is Part.HTML)
            for delivery in extremes(given.kind, given.language):
                compiled.render(values_of(delivery, part))
        except BadTemplate as error:
            raise invalid(field, str(error)) from error
        for unknown in compiled.unknown(KNOWN):
            raise invalid(
                field,
                f"line {unknown.line}, column {unknown.column}: there is no {unknown.name!r}; there are {', '.join(NAMES)}",
            )


async def find(tx: Tx, id: UUID, *, lock: bool = False) -> TemplateRow:
    """One of the tenant. Raises TEMPLATE_NOT_FOUND."""
    found = await store.read(tx, id, lock=lock)
    if found is None:
        raise not_found(ErrorReason.ERROR_REASON_TEMPLATE_NOT_FOUND, f"templates/{id}")
    return found


async def _require_room(tx: Tx) -> None:
    size = await store.size(tx)
    if size > MOST_BYTES:
        raise TocsinError(
            ErrorReason.ERROR_REASON_LIMIT_REACHED,
            f"the tenant's templates would have {size} bytes, and may have {MOST_BYTES}; shorten or delete some",
            metadata={"limit": _LIMIT, "allowed": str(MOST_BYTES)},
        )
