"""`python -m tocsin_notify serve | migrate | check`."""

from pathlib import Path

from tocsin_kit import collector

if __name__ == "__main__":
    with collector.resting():
        from tocsin_kit.lifecycle import main

        from tocsin_notify.settings import NotifySettings
        from tocsin_notify.wiring import build
    main("notify", NotifySettings, build, Path(__file__).parents[1] / "migrations")
