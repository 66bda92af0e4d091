"""What the tests of images and compose look at."""

from pathlib import Path

import pytest
from tocsin_stack.service import SERVICES, ServiceSpec

ROOT = Path(__file__).resolve().parents[3]

service = pytest.mark.parametrize("spec", SERVICES, ids=[spec.name for spec in SERVICES])


def dockerfile(spec: ServiceSpec) -> str:
    return (ROOT / "services" / spec.name / "Dockerfile").read_text()
