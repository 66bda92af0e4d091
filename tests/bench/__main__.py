"""Run every benchmark, each in a process of its own: `python -m tests.bench [part of a name]`."""

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
RUN = """
import importlib, sys, structlog, uvloop
structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))  # standard output is for the figures
uvloop.run(importlib.import_module(sys.argv[1]).main())
"""


def main() -> int:
    wanted = sys.argv[1] if len(sys.argv) > 1 else ""
    names = sorted(path.stem for path in HERE.glob("bench_*.py") if wanted in path.stem)
    if not names:
        sys.stderr.write(f"no benchmark with {wanted!r} in its name\n")
        return 2
    crashed = []
    for name in names:
        if subprocess.run([sys.executable, "-c", RUN, f"tests.bench.{name}"], cwd=HERE.parents[1]).returncode != 0:
            crashed.append(name)
    for name in crashed:
        sys.stderr.write(f"crashed: {name}\n")
    return 1 if crashed else 0


if __name__ == "__main__":
    sys.exit(main())
