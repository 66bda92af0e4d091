"""Remembers which migrations an embedded database has seen, so that a warm start need not ask three new processes."""

import hashlib
from importlib.util import find_spec
from pathlib import Path


class SeenMigrations:
    """Fingerprints of migration folders, kept in a file per service beside the embedded databases.

    Only ever a reason to skip work that would find nothing to do: a service itself refuses a schema it does not know.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def is_current(self, service: str, module: str) -> bool:
        """Whether these very migrations ran to their end before."""
        mark = self._folder / service
        return mark.exists() and mark.read_text() == _fingerprint(module)

    def record(self, service: str, module: str) -> None:
        """Remember that they ran."""
        self._folder.mkdir(parents=True, exist_ok=True)
        (self._folder / service).write_text(_fingerprint(module))

    def forget(self, service: str) -> None:
        """The database was made anew."""
        (self._folder / service).unlink(missing_ok=True)


def _fingerprint(module: str) -> str:
    """Names and contents of every file in the `migrations` folder beside or in the package, and of the kit's part."""
    spec = find_spec(module)
    digest = hashlib.sha256()
    kit = find_spec("tocsin_kit")
    if kit is not None and kit.origin is not None:
        digest.update((Path(kit.origin).parent / "db" / "tenant_login.py").read_bytes())
    if spec is not None and spec.origin is not None:
        package = Path(spec.origin).parent
        for folder in (package.parent / "migrations", package / "migrations"):
            for path in sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc"):
                digest.update(f"{path.relative_to(folder)}\0{path.stat().st_size}\0".encode())
                digest.update(path.read_bytes())
    return digest.hexdigest()
