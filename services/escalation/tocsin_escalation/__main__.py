"""`python -m tocsin_escalation serve | migrate | check`."""
# ruff: noqa: E402

import gc

gc.disable()  # It takes a quarter of the time that the imports take, and they leave no garbage. `tocsin_kit.collector` enables it.

from pathlib import Path

from tocsin_kit import collector

if __name__ == "__main__":
    with collector.resting():
        from tocsin_kit.lifecycle import main

        from tocsin_escalation.settings import EscalationSettings
        from tocsin_escalation.wiring import build
    main("escalation", EscalationSettings, build, Path(__file__).parents[1] / "migrations")
