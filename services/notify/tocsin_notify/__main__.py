"""`python -m tocsin_notify serve | migrate | check`."""

from pathlib import Path

from tocsin_kit.lifecycle import main

from tocsin_notify.settings import NotifySettings
from tocsin_notify.wiring import build

MIGRATIONS = Path(__file__).parents[1] / "migrations"

if __name__ == "__main__":
    main("notify", NotifySettings, build, MIGRATIONS)
