"""Contracts: `generate` code, `check` form, compatibility and freshness, `release` the image of the breaking check."""

import filecmp
import shutil
import subprocess
import sys
import tempfile
from importlib.resources import files
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROTOS = ROOT / "protos"
CONTRACTS = ROOT / "libs" / "contracts"
GENERATED = ["tocsin", "buf"]
RELEASED = PROTOS / "released.binpb"
BREAKING = '{"version": "v2", "breaking": {"use": ["WIRE_JSON"]}}'


def sources() -> list[Path]:
    return sorted([*PROTOS.glob("tocsin/**/*.proto"), *PROTOS.glob("third_party/buf/**/*.proto")])


def generate(target: Path) -> None:
    from grpc_tools import protoc

    well_known = files("grpc_tools") / "_proto"
    outputs = {"python_out": "", "grpc_python_out": "", "mypy_out": "quiet:", "mypy_grpc_out": "quiet:"}
    arguments = ["protoc", f"-I{PROTOS / 'third_party'}", f"-I{PROTOS}", f"-I{well_known}"]
    arguments += [
        f"--plugin=protoc-gen-{name}={Path(sys.executable).with_name('protoc-gen-' + name)}"
        for name in ("mypy", "mypy_grpc")
    ]
    arguments += [f"--{output}={options}{target}" for output, options in outputs.items()]
    if protoc.main([*arguments, *map(str, sources())]) != 0:
        sys.exit("protoc failed; see above")
    for folder in GENERATED:
        for empty in target.glob(f"{folder}/**/*_pb2_grpc.py*"):
            proto_path = (
                empty.relative_to(target)
                .as_posix()
                .replace("_pb2_grpc.pyi", ".proto")
                .replace("_pb2_grpc.py", ".proto")
            )
            candidates = [PROTOS / proto_path, PROTOS / "third_party" / proto_path]
            if not any("\nservice " in path.read_text() for path in candidates if path.exists()):
                empty.unlink()
        (target / folder / "py.typed").touch()


def replace_contracts() -> None:
    for folder in GENERATED:
        shutil.rmtree(CONTRACTS / folder, ignore_errors=True)
    generate(CONTRACTS)


def stale_files(fresh: Path) -> list[str]:
    stale: list[str] = []
    for folder in GENERATED:
        names = {
            path.relative_to(base).as_posix()
            for base in (fresh, CONTRACTS)
            for path in base.glob(f"{folder}/**/*")
            if path.suffix in {".py", ".pyi"}
        }
        _, differing, missing = filecmp.cmpfiles(fresh, CONTRACTS, sorted(names), shallow=False)
        stale += differing + missing
    return stale


def buf(*arguments: str) -> None:
    result = subprocess.run([str(Path(sys.executable).with_name("buf")), *arguments], cwd=ROOT, check=False)
    if result.returncode != 0:
        sys.exit(f"buf {arguments[0]} found something; see above")


def check() -> None:
    buf("lint")
    with tempfile.TemporaryDirectory() as folder:
        image = str(Path(folder) / "contracts.binpb")
        buf("build", "protos", "-o", image)
        buf("breaking", image, "--against", str(RELEASED), "--exclude-imports", "--config", BREAKING)
        generate(Path(folder))
        if stale := stale_files(Path(folder)):
            sys.exit("generated code is stale, run `make protos` and commit:\n  " + "\n  ".join(stale))


def release() -> None:
    buf("build", "protos", "-o", str(RELEASED))


def main() -> None:
    commands = {"generate": replace_contracts, "check": check, "release": release}
    if len(sys.argv) != 2 or sys.argv[1] not in commands:
        sys.exit(f"usage: protos.py {'|'.join(commands)}")
    commands[sys.argv[1]]()


if __name__ == "__main__":
    main()
