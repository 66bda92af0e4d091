"""`python -m tocsin_ingest serve | migrate | check`."""

from pathlib import Path

from tocsin_kit.lifecycle import main

from tocsin_ingest.settings import IngestSettings
from tocsin_ingest.wiring import build

if __name__ == "__main__":
    main("ingest", IngestSettings, build, Path(__file__).parent.parent / "migrations")
