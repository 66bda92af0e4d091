"""`python -m tocsin_ingest serve | migrate | check`."""
# ruff: noqa: E402

import gc

gc.disable()  # It takes a quarter of the time that the imports take, and they leave no garbage. `tocsin_kit.collector` enables it.

from pathlib import Path

from tocsin_kit import collector

if __name__ == "__main__":
    with collector.resting():
        from tocsin_kit.lifecycle import main

        from tocsin_ingest.settings import IngestSettings
        from tocsin_ingest.wiring import build
    main("ingest", IngestSettings, build, Path(__file__).parents[1] / "migrations")
