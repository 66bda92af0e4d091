"""What the tests of images and compose look at."""

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest
from tocsin_stack.service import SERVICES, ServiceSpec

ROOT = Path(__file__).resolve().parents[3]

service = pytest.mark.parametrize("spec", SERVICES, ids=[spec.name for spec in SERVICES])


def dockerfile(spec: ServiceSpec) -> str:
    return (ROOT / "services" / spec.name / "Dockerfile").read_text()


def _tool() -> Any:
    """tools/containers.py: a script, so it is on no path, whichever way pytest is started."""
    spec = spec_from_file_location("containers", ROOT / "tools" / "containers.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


containers = _tool()
