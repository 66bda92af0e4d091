"""The house keeps its shape: who may import whom, how long a file may be, what the kit may not know."""

import ast
import inspect
import re
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest
from sqlalchemy import MetaData, Table
from tocsin_kit.db import tables as kit_tables

from tests.architecture.syntax import nodes

ROOT = Path(__file__).resolve().parents[2]
SERVICES = ["ingest", "escalation", "notify"]
SOURCES = [
    path
    for folder in ("libs", "services", "tools")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if "contracts" not in path.parts and not path.name.endswith(("_pb2.py", "_pb2_grpc.py"))
]
LONGEST = 400
# Words of the domain that the technical kit must not know.
DOMAIN_WORDS = re.compile(
    r"\b(incidents?|(?<!services/)escalations?|(?<!email\.)polic(y|ies)(?!=_)|alerts?)\b", re.IGNORECASE
)
STATEMENT = re.compile(r"\s*(SELECT\s|WITH\s|INSERT\s+INTO|UPDATE\s+\w+\s+SET|DELETE\s+FROM)")

# The tables that the kit works on, for each service in its own database.
TABLES_OF_THE_KIT = {
    function(MetaData()).name
    for _, function in inspect.getmembers(kit_tables, inspect.isfunction)
    if inspect.signature(function).return_annotation is Table
}


def test_the_import_contracts_hold() -> None:
    # In a process of its own: it configures logging, and would silence the loggers of every test after it.
    program = str(Path(sys.executable).with_name("lint-imports"))
    command = [program, "--no-cache", "--config", str(ROOT / "pyproject.toml")]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize("service", SERVICES)
def test_a_domain_imports_nothing_but_the_standard_library_and_itself(service: str) -> None:
    package = f"tocsin_{service}"
    allowed = {*sys.stdlib_module_names, package}
    for path in sorted((ROOT / "services" / service / package / "domain").rglob("*.py")):
        for module in imported(path):
            assert module.split(".")[0] in allowed, f"{path.name} imports {module}"
            if module.startswith(package):
                assert module.startswith(f"{package}.domain"), f"{path.name} imports {module}"


def test_a_file_is_read_in_one_sitting() -> None:
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in SOURCES}
    assert {path: length for path, length in lengths.items() if length > LONGEST} == {}


def test_tests_call_no_database_that_is_still_dialing() -> None:
    """Such a call waits for half a second, which is too short on a busy machine: they open it by `tocsin_testkit.databases`."""
    about_dialing = {"tests/store/kit/test_pool_outages.py", "tests/store/kit/test_tenant_login.py"}
    opening = {
        str(path.relative_to(ROOT))
        for folder in ("tests", "libs/testkit")
        for path in (ROOT / folder).rglob("*.py")
        if "bench" not in path.parts and re.search(r"await Database\.open\(", path.read_text())
    }
    assert opening == about_dialing | {"libs/testkit/tocsin_testkit/databases.py"}


def test_the_kit_has_no_word_of_the_domain() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in sorted((ROOT / "libs" / "kit").rglob("*.py"))
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if DOMAIN_WORDS.search(line.replace("CREATE POLICY", ""))
    ]
    assert found == []


def test_every_package_states_its_licence_and_the_one_version() -> None:
    projects = [path for path in ROOT.glob("**/pyproject.toml") if ".venv" not in path.parts]
    stated = {path: tomllib.loads(path.read_text())["project"] for path in projects}
    assert len(stated) > len(SERVICES)
    assert {project["license"] for project in stated.values()} == {"Apache-2.0"}
    versions = {project["version"] for project in stated.values()}
    newest = re.search(r"^## \[(\d+\.\d+\.\d+)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest is not None
    assert versions == {newest[1]}
    # A package that others install by itself carries the text.
    for path, project in stated.items():
        for name in project.get("license-files", []):
            assert (path.parent / name).read_text() == (ROOT / "LICENSE").read_text()


@pytest.mark.parametrize("service", SERVICES)
def test_sql_and_rows_of_the_driver_stay_in_the_store(service: str) -> None:
    """What leaves a store is a dataclass, so that a column has one name and one type for everybody who reads it."""
    package = ROOT / "services" / service / f"tocsin_{service}"
    for path in sorted(package.rglob("*.py")):
        if package / "store" in path.parents:
            continue
        docstrings = {id(node.value) for node in nodes(path) if isinstance(node, ast.Expr)}
        for node in nodes(path):
            if isinstance(node, ast.Attribute):
                assert node.attr != "Record", f"{path.name}:{node.lineno} handles a row of the driver"
            if isinstance(node, ast.alias):
                assert node.name != "Record", f"{path.name}:{node.lineno} imports the rows of the driver"
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
                assert not STATEMENT.match(node.value), f"{path.name}:{node.lineno} holds SQL"


@pytest.mark.parametrize("service", SERVICES)
def test_no_statement_of_a_service_names_a_table_of_the_kit(service: str) -> None:
    """Only the kit knows what a row of it means at which time, so that the relay and the sweeps may change it."""
    assert {"outbox", "requests"} <= TABLES_OF_THE_KIT
    found: list[str] = []
    for path in sorted((ROOT / "services" / service / f"tocsin_{service}" / "store").rglob("*.py")):
        docstrings = {id(node.value) for node in nodes(path) if isinstance(node, ast.Expr)}
        for node in nodes(path):
            named: set[str] = set()
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
                named = set(re.findall(r"\w+", node.value))
            elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "tables":
                named = {node.attr}
            elif isinstance(node, ast.ImportFrom) and node.module == f"tocsin_{service}.store.tables":
                named = {alias.name for alias in node.names}
            line = getattr(node, "lineno", 0)
            found += [f"{path.name}:{line} {name}" for name in sorted(named & TABLES_OF_THE_KIT)]
    assert found == [], "use tocsin_kit.db.outbox, requests, queues or tocsin_kit.budgets"


def test_nothing_is_pickled() -> None:
    for path in SOURCES:
        assert "pickle" not in imported(path), f"{path} imports pickle"


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Not for type checkers only either: who reads one of a circle has to read them all."""
    named = {module_name(path): path for path in SOURCES}
    graph = {name: imported(path, frozenset(named)) & (named.keys() - {name}) for name, path in named.items()}
    while True:
        used = set().union(*graph.values())
        inside = {
            name: others & graph.keys() for name, others in graph.items() if name in used and others & graph.keys()
        }
        if inside == graph:
            break
        graph = inside
    assert graph == {}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    start = next((number for number, part in enumerate(parts) if part.startswith("tocsin_")), 0)
    return ".".join(parts[start:]).removesuffix(".__init__")


@cache
def imports(path: Path) -> list[ast.Import | ast.ImportFrom]:
    return [node for node in nodes(path) if isinstance(node, ast.Import | ast.ImportFrom)]


def imported(path: Path, named: frozenset[str] = frozenset()) -> set[str]:
    """Every module a file imports, wherever in the file. `named`: modules that may be imported from their package."""
    modules: set[str] = set()
    for node in imports(path):
        if isinstance(node, ast.Import):
            modules.update(alias.name for alias in node.names)
        elif node.module:
            submodules = {f"{node.module}.{alias.name}" for alias in node.names} & named
            modules |= submodules
            if len(submodules) < len(node.names):
                modules.add(node.module)
    return modules


def test_lists_are_cut_by_their_bytes() -> None:
    """`page_size` alone lets callers ask for 500 of the largest things there are: rows go through `listed` or `searched`."""
    without_rows = {
        "libs/kit/tocsin_kit/rpc/limit_service.py": "tenants in memory, of one size",
        "libs/kit/tocsin_kit/rpc/queue_service.py": "tasks of the journal, which keeps them short",
        "services/escalation/tocsin_escalation/rpc/policy_service.py": "warnings, of one size",
        "services/escalation/tocsin_escalation/rpc/schedule_service.py": "who is on call, which is computed",
    }
    users = {
        str(path.relative_to(ROOT))
        for path in SOURCES
        for node in nodes(path)
        if isinstance(node, ast.ImportFrom)
        and node.module == "tocsin_kit.rpc.paging"
        and "page_size" in {name.name for name in node.names}
    }
    assert users - {"libs/kit/tocsin_kit/rpc/listing.py"} == set(without_rows)
