"""The contracts themselves: what every one of them must have."""

import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.descriptor_pool import Default
from protovalidate._gen.buf.validate import validate_pb as official
from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin.type.v1 import access_pb2
from tocsin_kit.rpc.access import Access

ROOT = Path(__file__).resolve().parents[2]
READING = (
    "Get",
    "List",
    "Check",
    "Compare",
    "Count",
    "Explain",
    "Preview",
    "ResolveSchedule",
    "Simulate",
    "Summarize",
    "Watch",
)
MUTATING_WITHOUT_ID = {
    "SendAlerts": "each alert carries its own",
    "StreamAlerts": "each alert carries its own",
    "SendHeartbeat": "calling twice is calling in",
    "PauseQueue": "pausing a paused queue is OK",
    "ResumeQueue": "resuming a running queue is OK",
    "ApplyIncidentEvents": "idempotent by each incident's event numbers",
    "ReconcileIncidents": "comparing twice mends nothing twice",
    "ReconcilePages": "a page is handed over again under its own id",
    "ApplyPageOutcomes": "idempotent by page and outcome",
    "NoteKeyUses": "an earlier time changes nothing",
    "ResolveIncidents": "resolving a resolved incident is OK",
    "SubmitNotifications": "idempotent by each job's page",
    "CancelNotifications": "a fence can only rise",
    "ApplyUserChanges": "idempotent by each change's user and time",
    "PublishIncidentEvents": "idempotent by each event's id",
    "OpenEventFeeds": "opening a feed that is open is OK",
}


def methods() -> Iterator[MethodDescriptor]:
    for path in sorted((ROOT / "protos" / "tocsin").rglob("*_service.proto")):
        module = path.relative_to(ROOT / "protos").with_suffix("").as_posix().replace("/", ".") + "_pb2"
        for service in import_module(module).DESCRIPTOR.services_by_name.values():
            yield from service.methods


def scope_of(method: MethodDescriptor) -> str:
    scope: str = method.GetOptions().Extensions[access_pb2.scope]
    return scope


METHODS = list(methods())


def test_every_method_names_its_scope() -> None:
    assert len(METHODS) > 100
    form = re.compile(r"internal|[a-z]+:(read|write)")
    assert [each.full_name for each in METHODS if not form.fullmatch(scope_of(each))] == []


def test_the_scope_says_whether_a_method_reads() -> None:
    """The budgets of a tenant keep room for calls that change something, and know them by their scope."""
    public = [each for each in METHODS if scope_of(each) != "internal"]
    assert [
        each.full_name for each in public if Access(scope_of(each)).reads is not each.name.startswith(READING)
    ] == []


def test_every_mutation_can_be_repeated_safely() -> None:
    mutating = [each for each in METHODS if not each.name.startswith(READING) and each.name not in MUTATING_WITHOUT_ID]
    assert [each.full_name for each in mutating if "request_id" not in each.input_type.fields_by_name] == []


def test_the_vendored_rules_have_the_numbers_of_protovalidate() -> None:
    """Our part of validate.proto must mean the same to any protovalidate implementation."""
    ours = Default().FindFileByName("buf/validate/validate.proto")
    theirs = {message.name: message for message in official.FieldRules.desc().file.proto.message_type}
    for message in ours.message_types_by_name.values():
        numbers = {field.name: field.number for field in theirs[message.name].field}
        for field in message.fields:
            assert numbers[field.name] == field.number, f"{message.name}.{field.name}"


def test_every_reason_is_explained_with_its_status_code() -> None:
    text = (ROOT / "protos/tocsin/errors/v1/error_reason.proto").read_text()
    code = r"(INVALID_ARGUMENT|UNAUTHENTICATED|PERMISSION_DENIED|NOT_FOUND|ALREADY_EXISTS|ABORTED|FAILED_PRECONDITION"
    code += r"|RESOURCE_EXHAUSTED|UNAVAILABLE|DEADLINE_EXCEEDED|INTERNAL)"
    values = re.findall(r"((?:  // .*\n)+)  ERROR_REASON_(\w+) = \d+(?: \[deprecated = true\])?;", text)
    unexplained = [name for comment, name in values if name != "UNSPECIFIED" and not re.match(rf"  // {code}", comment)]
    assert len(values) == len(ErrorReason.values())
    assert unexplained == []
