"""What the tests of images and compose look at."""

import re

import pytest
from tocsin_stack.service import SERVICES, ServiceSpec

from tests.contract.tools import ROOT, load

__all__ = ["ROOT", "containers", "dockerfile", "service"]

service = pytest.mark.parametrize("spec", SERVICES, ids=[spec.name for spec in SERVICES])


def dockerfile(spec: ServiceSpec) -> str:
    """What a service's image is built from: the stages that all share, and its own."""
    start, *stages = re.split(r"^(?=FROM )", (ROOT / "docker/Dockerfile").read_text(), flags=re.MULTILINE)
    shared = [stage for stage in stages if not stage.startswith("FROM service AS ")]
    [own] = [stage for stage in stages if stage.startswith(f"FROM service AS {spec.name}\n")]
    return start + "".join(shared) + own.rstrip()


containers = load("containers")
