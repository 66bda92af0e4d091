"""Exports of other tools, and what is looked at in the plans that they become."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from google.protobuf import json_format
from tocsin.escalation.v1 import schedule_pb2 as pb
from tocsin_client.imports.plan import Plan

EXPORTS = Path(__file__).parent / "exports"
AT = datetime(2026, 11, 1, tzinfo=UTC)
KNOWN = {f"P{each.upper()}": each for each in ("ana", "ben", "cem", "dora", "eva")}


def read(name: str) -> Any:
    return json.loads((EXPORTS / f"{name}.json").read_text())


def ahead(plan: Plan) -> list[dict[str, Any]]:
    """The overrides of the one schedule, as JSON."""
    [wanted] = plan.wanted
    return [json_format.MessageToDict(each.override, preserving_proto_field_name=True) for each in wanted.overrides]


def hours(layer: pb.Layer) -> list[tuple[list[int], str, str, int]]:
    return [(list(each.days), each.start, each.end, each.end_days_later) for each in layer.windows]
