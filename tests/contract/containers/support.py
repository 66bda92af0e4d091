"""What the tests of images and compose look at."""

import pytest
from tocsin_stack.service import SERVICES, ServiceSpec

from tests.contract.tools import ROOT, load

__all__ = ["ROOT", "containers", "dockerfile", "service"]

service = pytest.mark.parametrize("spec", SERVICES, ids=[spec.name for spec in SERVICES])


def dockerfile(spec: ServiceSpec) -> str:
    return (ROOT / "services" / spec.name / "Dockerfile").read_text()


containers = load("containers")
