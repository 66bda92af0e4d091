"""The scripts in tools/, as modules: no path has them, whichever way pytest is started, and they import each other."""

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[2]
_TOOLS: Final = ROOT / "tools"


def load(name: str) -> Any:
    """tools/<name>.py."""
    if str(_TOOLS) not in sys.path:
        sys.path.append(str(_TOOLS))
    spec = spec_from_file_location(name, _TOOLS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
