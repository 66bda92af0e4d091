"""`python -m tocsin_escalation serve | migrate | check`."""

from tocsin_kit import gc_tuning

if __name__ == "__main__":
    with gc_tuning.switched_off():
        from tocsin_kit.db.migrations import folder_of
        from tocsin_kit.lifecycle import main

        from tocsin_escalation.settings import EscalationSettings
        from tocsin_escalation.wiring import build
    main("escalation", EscalationSettings, build, folder_of(__file__))
