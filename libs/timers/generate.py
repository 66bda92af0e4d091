"""Generate envelope_pb2.py and its types from envelope.proto: `python libs/timers/generate.py [folder to write to]`."""

import sys
from pathlib import Path
from typing import Final

from grpc_tools import protoc

HERE: Final = Path(__file__).resolve().parent


def generate(target: Path) -> None:
    """Write the generated files under `target`; raises RuntimeError when the compiler refuses the proto."""
    proto = "tocsin_timers/v1/envelope.proto"
    plugin = Path(sys.executable).with_name("protoc-gen-mypy")
    arguments = [
        f"-I{HERE}",
        f"--python_out={target}",
        f"--plugin=protoc-gen-mypy={plugin}",
        f"--mypy_out=quiet:{target}",
    ]
    if protoc.main(["protoc", *arguments, proto]) != 0:
        raise RuntimeError(f"protoc refused {proto}")


if __name__ == "__main__":
    generate(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE)
