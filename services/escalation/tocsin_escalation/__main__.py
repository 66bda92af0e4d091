"""`python -m tocsin_escalation serve | migrate | check`."""

from pathlib import Path

from tocsin_kit import collector

if __name__ == "__main__":
    with collector.resting():
        from tocsin_kit.lifecycle import main

        from tocsin_escalation.settings import EscalationSettings
        from tocsin_escalation.wiring import build
    main("escalation", EscalationSettings, build, Path(__file__).parents[1] / "migrations")
