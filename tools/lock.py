"""Compile the two lock files from what the members declare. The format names hashes and no hosts."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RUNTIME = ["contracts", "kit", "timers"]
SERVICES = ["ingest", "escalation", "notify"]


def compile_lock(output: str, arguments: list[str]) -> None:
    uv = Path(sys.executable).with_name("uv")
    command = [str(uv), "pip", "compile", "--quiet", "--universal", "--python-version", "3.11", "--generate-hashes"]
    command += ["--no-header", "--no-emit-index-url", "--no-emit-find-links", "--no-annotate", "-o", output, *arguments]
    subprocess.run(command, cwd=ROOT, check=True)


def main() -> None:
    runtime = [f"libs/{name}/pyproject.toml" for name in RUNTIME]
    runtime += [f"services/{name}/pyproject.toml" for name in SERVICES]
    everything = [*runtime, "libs/stack/pyproject.toml", "libs/testkit/pyproject.toml", "pyproject.toml"]
    compile_lock("requirements.lock", [*everything, "--group", "dev"])
    compile_lock("requirements.runtime.lock", [*runtime, "--constraint", "requirements.lock"])


if __name__ == "__main__":
    main()
