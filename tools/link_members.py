"""Put the members' folders on the virtual environment's path: the checkout itself runs, with no build step."""

import sys
import sysconfig
from pathlib import Path


def main() -> None:
    root = Path(__file__).resolve().parent.parent
    target = Path(sysconfig.get_paths()["purelib"]) / "tocsin_members.pth"
    target.write_text("".join(f"{root / member}\n" for member in sys.argv[1:]))


if __name__ == "__main__":
    main()
