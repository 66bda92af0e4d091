"""`python -m tocsin_escalation serve | migrate | check`."""

from pathlib import Path

from tocsin_kit.lifecycle import main

from tocsin_escalation.settings import EscalationSettings
from tocsin_escalation.wiring import build

if __name__ == "__main__":
    main("escalation", EscalationSettings, build, Path(__file__).parent.parent / "migrations")
