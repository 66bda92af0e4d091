"""PreviewMapping: what a mapping makes of a body, before it is saved."""

from typing import Any, Final

from tocsin.ingest.v1.alert_service_pb2 import SendAlertRequest
from tocsin.ingest.v1.integration_service_pb2 import MappedAlert, PreviewMappingRequest, PreviewMappingResponse
from tocsin_kit.errors import TocsinError
from tocsin_kit.rpc.failures import masked
from tocsin_kit.rpc.validation import validate
from tocsin_kit.time_slices import TimeSlice

from tocsin_ingest.app.alerts.alert_size import check_size, shorten
from tocsin_ingest.app.integrations.compile_mapping import CompiledMapping, compile_mapping
from tocsin_ingest.http import documents, generic
from tocsin_ingest.http.documents import Outer

_SHOWN: Final = 100


async def preview_mapping(request: PreviewMappingRequest) -> PreviewMappingResponse:
    """Raises INVALID_FIELD for expressions that are none, a body that is no JSON, and a mapping that finds no list in it."""
    mapping = compile_mapping(request.mapping, "mapping")
    document = await documents.read(request.body.encode("utf-8", "replace"), outer=Outer.EITHER)
    if document.broken is not None:
        raise document.broken
    response, time_slice = PreviewMappingResponse(), TimeSlice()
    for place, given in generic.first(mapping, document):
        response.alert_count += 1
        if response.alert_count <= _SHOWN:
            response.alerts.append(_mapped(mapping, given, place))
            await time_slice.yield_if_over()
    return response


def _mapped(mapping: CompiledMapping, given: Any, place: str) -> MappedAlert:
    shown = MappedAlert(place=place)
    try:
        if isinstance(given, TocsinError):
            raise given
        alert = generic.item(mapping, given, place).alert
        shorten(alert)
        # As the alert's own way in checks it.
        validate(SendAlertRequest(alert=alert))
        check_size(alert)
        shown.alert.CopyFrom(alert)
    except Exception as failure:
        shown.problem = masked(failure).message
    return shown
