"""`python -m tocsin_ingest serve | migrate | check`."""

from tocsin_kit import gc_tuning

if __name__ == "__main__":
    with gc_tuning.switched_off():
        from tocsin_kit.db.migrations import folder_of
        from tocsin_kit.lifecycle import main

        from tocsin_ingest.settings import IngestSettings
        from tocsin_ingest.wiring import build
    main("ingest", IngestSettings, build, folder_of(__file__))
