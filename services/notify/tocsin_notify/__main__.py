"""`python -m tocsin_notify serve | migrate | check`."""

from tocsin_kit import gc_tuning

if __name__ == "__main__":
    with gc_tuning.switched_off():
        from tocsin_kit.db.migrations import folder_of
        from tocsin_kit.lifecycle import main

        from tocsin_notify.settings import NotifySettings
        from tocsin_notify.wiring import build
    main("notify", NotifySettings, build, folder_of(__file__))
