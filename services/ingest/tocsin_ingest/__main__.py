"""`python -m tocsin_ingest serve | migrate | check`."""

from pathlib import Path

from tocsin_kit import collector

if __name__ == "__main__":
    with collector.resting():
        from tocsin_kit.lifecycle import main

        from tocsin_ingest.settings import IngestSettings
        from tocsin_ingest.wiring import build
    main("ingest", IngestSettings, build, Path(__file__).parents[1] / "migrations")
