"""What the fence of Apprise's process lets through, tried in a process of its own: a fence cannot be taken down again."""

import json
import subprocess
import sys
from pathlib import Path

from tests.unit.notify import fenced_deeds


def test_only_what_is_harmless_is_done() -> None:
    ran = subprocess.run(
        [sys.executable, fenced_deeds.__file__], capture_output=True, check=True, cwd=Path("/"), timeout=60
    )
    done = json.loads(ran.stdout)
    assert done["forbidden"] == []
    assert done["allowed"] == list(fenced_deeds.ALLOWED)
    assert done["asked"] == 1, "asked once, for the one address that may be called"
