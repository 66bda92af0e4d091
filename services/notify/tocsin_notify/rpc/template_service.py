"""TemplateService: decode, call one use case, encode."""

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

from tocsin.notify.v1 import template_service_pb2 as pb
from tocsin.notify.v1 import template_service_pb2_grpc as pb_grpc
from tocsin_kit.db.pool import Database, Tx
from tocsin_kit.ids import parse_uuid_name
from tocsin_kit.rpc.apply_once import ApplyOnce
from tocsin_kit.rpc.call import note_before, tenant
from tocsin_kit.rpc.listing import FEW_ROWS, listed
from tocsin_kit.rpc.masks import apply_update_mask
from tocsin_kit.rpc.paging import PageTokens
from tocsin_kit.rpc.validation import validate

from tocsin_notify.app.messages.template_preview import job_for, preview
from tocsin_notify.app.messages.templates import TemplateInput, Templates, check, find
from tocsin_notify.rpc import mapping
from tocsin_notify.rpc import template_mapping as encode
from tocsin_notify.store.messages import templates as store
from tocsin_notify.store.messages.templates import TemplateRow
from tocsin_notify.templates.chosen import Source

_COLLECTION: Final = "templates"


class TemplateService(pb_grpc.TemplateServiceServicer):
    """What messages say."""

    def __init__(
        self, db: Database, use: Templates, pages: PageTokens, *, public_url: str, segments: int, replies: bool
    ) -> None:
        """`segments`, `replies`: of text messages."""
        self._db = db
        self._once = ApplyOnce(db)
        self._use = use
        self._pages = pages
        self._preview = partial(preview, public_url=public_url, segments=segments, replies=replies)

    async def CreateTemplate(self, request: pb.CreateTemplateRequest, context: Any) -> pb.CreateTemplateResponse:
        """See the contract."""
        given = encode.given_from(request.template)
        await check(given)

        async def create(tx: Tx) -> pb.CreateTemplateResponse:
            return pb.CreateTemplateResponse(template=encode.template_to(await self._use.create(tx, given)))

        return await self._once("CreateTemplate", request, pb.CreateTemplateResponse, create)

    async def GetTemplate(self, request: pb.GetTemplateRequest, context: Any) -> pb.GetTemplateResponse:
        """See the contract."""
        async with self._db.transaction(tenant()) as tx:
            found = await find(tx, parse_uuid_name(request.name, _COLLECTION))
        return pb.GetTemplateResponse(template=encode.template_to(found))

    async def ListTemplates(self, request: pb.ListTemplatesRequest, context: Any) -> pb.ListTemplatesResponse:
        """See the contract."""

        async def read(after: Any, limit: int) -> Sequence[TemplateRow]:
            async with self._db.transaction(tenant()) as tx:
                return await store.page(tx, after, limit)

        templates, token = await listed(
            self._pages, request, mapping.FIRST, read, encode.template_to, mapping.place, portion=FEW_ROWS
        )
        return pb.ListTemplatesResponse(templates=templates, next_page_token=token)

    async def UpdateTemplate(self, request: pb.UpdateTemplateRequest, context: Any) -> pb.UpdateTemplateResponse:
        """See the contract. What it becomes is checked outside the transaction, so the template may not change meanwhile."""
        given = request.template
        id = parse_uuid_name(given.name, _COLLECTION, field="template.name")
        async with self._db.transaction(tenant()) as tx:
            before = await find(tx, id)
        merged = encode.template_to(before)
        apply_update_mask(merged, given, request.update_mask, writable=encode.WRITABLE)
        validate(merged, "template")
        wanted = encode.given_from(merged)
        await check(wanted)

        async def update(tx: Tx) -> pb.UpdateTemplateResponse:
            row = await self._use.update(tx, id, given.etag, before.version, wanted.parts)
            return pb.UpdateTemplateResponse(template=encode.template_to(row))

        return await self._once("UpdateTemplate", request, pb.UpdateTemplateResponse, update)

    async def DeleteTemplate(self, request: pb.DeleteTemplateRequest, context: Any) -> pb.DeleteTemplateResponse:
        """See the contract."""
        id = parse_uuid_name(request.name, _COLLECTION)

        async def delete(tx: Tx) -> pb.DeleteTemplateResponse:
            note_before(encode.template_to(await self._use.delete(tx, id, request.etag)))
            return pb.DeleteTemplateResponse()

        return await self._once("DeleteTemplate", request, pb.DeleteTemplateResponse, delete)

    async def PreviewTemplate(self, request: pb.PreviewTemplateRequest, context: Any) -> pb.PreviewTemplateResponse:
        """See the contract."""
        incident = parse_uuid_name(request.incident, "incidents", field="incident") if request.incident else None
        async with self._db.transaction(tenant()) as tx:
            if request.WhichOneof("source") == "name":
                row = await find(tx, parse_uuid_name(request.name, _COLLECTION))
                source = Source(request.name, row.kind, row.language, row.parts)
            else:
                source = _source(encode.given_from(request.template))
            job = await job_for(tx, source.kind, incident, request.shift_notice)
        return encode.preview_to(await asyncio.to_thread(self._preview, source, job))


def _source(given: TemplateInput) -> Source:
    return Source("", given.kind, given.language, given.parts)
