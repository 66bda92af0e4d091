"""Containers: `check` the Dockerfile and docker-compose.yml with the real tools; `secrets` makes .env, once; `pin` names its images
by digest.

Needs the standard library only, so that `python3 tools/containers.py secrets` works before anything is installed.
"""

import base64
import os
import platform
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DOCKERFILE = "docker/Dockerfile"
COMPOSE = "docker-compose.yml"
EXAMPLE = ".env.example"
IMAGE = re.compile(r"^#?(\w+_IMAGE)=([^\s@]+)$", re.MULTILINE)
"""An image by name and tag, be it the one that is taken without a setting."""
EMPTY = re.compile(r"^([A-Z][A-Z0-9_]*)=$", re.MULTILINE)


class Skipped(Exception):
    """A tool does not exist for this machine. The message says which, and what was not checked."""


def tool(name: str) -> str:
    """The program's path: beside this interpreter, else on PATH. Raises Skipped."""
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        machine = f"{platform.system()} {platform.machine()}"
        raise Skipped(f"{name} is neither in {beside.parent} nor on PATH (is there one for {machine}?)")
    return found


def run(program: str, *arguments: str, root: Path) -> tuple[int, str]:
    """Exit code and output. The program gets nothing of the caller's environment, so the result does not depend on it."""
    with tempfile.TemporaryDirectory() as home:
        environment = {"PATH": os.defpath, "HOME": home, "LC_ALL": "C.UTF-8"}
        try:
            result = subprocess.run(
                [program, *arguments],
                cwd=root,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
            )
        except OSError as error:  # a program of another kind of machine, or without its loader
            raise Skipped(f"{program} does not start here: {error}") from error
    return result.returncode, result.stdout.strip()


def fill(example: str) -> str:
    """The example with a fresh random value after every name that has none."""

    def value(match: re.Match[str]) -> str:
        name = match.group(1)
        if name == "AUTH_SIGNING_KEYS":
            return f"{name}=k1:{base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()}"
        return f"{name}={secrets.token_hex(32)}"

    return EMPTY.sub(value, example)


def check_dockerfile(root: Path) -> list[str]:
    """What hadolint says, all its rules on, and which service has no target."""
    services = sorted(path.parent.name for path in root.glob("services/*/pyproject.toml"))
    targets = re.findall(r"^FROM service AS (\w+)$", (root / DOCKERFILE).read_text(), re.MULTILINE)
    problems = [f"{DOCKERFILE} has no target {name}" for name in services if name not in targets]
    # Ignores are written into the Dockerfile, beside their reason; the flag keeps a config file from adding more.
    code, output = run(tool("hadolint"), "--no-color", "--config", os.devnull, DOCKERFILE, root=root)
    return problems + ([output or f"hadolint exited with {code}"] if code else [])


def check_compose(root: Path) -> list[str]:
    """Whether compose reads the file with the example's settings, and refuses it while a secret is empty."""
    program = tool("docker-compose")
    example = (root / EXAMPLE).read_text()
    problems = []
    with tempfile.TemporaryDirectory() as folder:
        filled = Path(folder) / "filled.env"
        filled.write_text(fill(example))
        code, output = config(program, filled, root)
        if code:  # a file that is refused with all secrets says nothing about one that is empty
            return [f"{COMPOSE} with the settings of {EXAMPLE}:\n{output}"]
        # A warning names a variable that the file uses and that is not set: it would silently be empty.
        if output:
            problems.append(f"{COMPOSE}: {output}")
        for name in EMPTY.findall(example):
            lacking = Path(folder) / "lacking.env"
            lacking.write_text(re.sub(rf"^{name}=.*$", f"{name}=", filled.read_text(), flags=re.MULTILINE))
            code, output = config(program, lacking, root)
            if code == 0 or name not in output:
                problems.append(f"{COMPOSE} starts without {name}, or does not name it: use ${{{name}:?...}}")
    return problems


def config(program: str, env_file: Path, root: Path) -> tuple[int, str]:
    """`docker-compose config` with the settings of one file."""
    return run(program, "--file", COMPOSE, "--env-file", str(env_file), "config", "--quiet", root=root)


def check(root: Path = ROOT) -> int:
    """Print what is wrong and what could not be checked; 1 when something is wrong."""
    problems = []
    for subject, examine in ((DOCKERFILE, check_dockerfile), (COMPOSE, check_compose)):
        try:
            found = examine(root)
        except Skipped as reason:
            print(f"containers: {subject} NOT CHECKED: {reason}")
            continue
        problems += found
        if not found:
            print(f"containers: {subject} ok")
    for problem in problems:
        print(f"containers: {problem}", file=sys.stderr)
    return 1 if problems else 0


def make_secrets(root: Path = ROOT) -> int:
    """Write .env, readable by its owner only. Never over one that is there: the databases keep the old passwords."""
    target = root / ".env"
    text = fill((root / EXAMPLE).read_text())
    try:
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        print(f"{target} exists already and stays as it is", file=sys.stderr)
        return 1
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    print(f"{target} written; keep it: the stores' data can only be opened with it")
    return 0


def pin(root: Path = ROOT) -> int:
    """Pull the images that .env names by a tag, and name them there by their digest, so that a moved tag changes nothing."""
    target = root / ".env"
    try:
        docker, text = tool("docker"), target.read_text()
        for name, image in IMAGE.findall(text):
            found = digest_of(docker, image)
            text = re.sub(rf"^#?{name}=.*$", f"{name}={found}", text, flags=re.MULTILINE)
            print(f"{name}={found}")
    except (Skipped, OSError, subprocess.CalledProcessError) as error:
        print(f"containers: nothing was pinned: {error}", file=sys.stderr)
        return 1
    target.write_text(text)
    return 0


def digest_of(docker: str, image: str) -> str:
    """`name@sha256:…` of what the registry has under this name now. Raises CalledProcessError."""
    subprocess.run([docker, "pull", "--quiet", image], check=True, stdout=subprocess.DEVNULL)
    form = "{{range .RepoDigests}}{{println .}}{{end}}"
    told = subprocess.run(
        [docker, "image", "inspect", "--format", form, image], check=True, capture_output=True, text=True
    )
    return told.stdout.split()[0]


def main(arguments: list[str]) -> int:
    match arguments:
        case [] | ["check"]:
            return check()
        case ["secrets"]:
            return make_secrets()
        case ["pin"]:
            return pin()
        case _:
            print("usage: containers.py [check | secrets | pin]", file=sys.stderr)
            return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
