"""Build the wheels of the members named on the command line into dist/: what others install who have no checkout.

A service's migrations stand beside its package in the checkout, and within it in the wheel: three folders of one name have no place
side by side in `site-packages`.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
_LEFT_OUT: Final = shutil.ignore_patterns("__pycache__", "build", "*.egg-info")


def stage(member: Path, into: Path) -> Path:
    """A copy of a member as its wheel is built from."""
    copy = into / member.name
    shutil.copytree(member, copy, ignore=_LEFT_OUT)
    if (copy / "migrations").is_dir():
        (copy / "migrations").rename(copy / f"tocsin_{member.name}" / "migrations")
    return copy


def main() -> None:
    uv = Path(sys.executable).with_name("uv")
    with tempfile.TemporaryDirectory(prefix="tocsin-wheels-") as folder:
        for name in sys.argv[1:]:
            copy = stage(ROOT / name, Path(folder))
            subprocess.run(
                [str(uv), "build", "--quiet", "--wheel", "--out-dir", str(ROOT / "dist"), str(copy)], check=True
            )


if __name__ == "__main__":
    main()
