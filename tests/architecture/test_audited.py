"""Every RPC that changes something goes through the code that writes the audit log; those that replace say what was before."""

import ast
from functools import cache
from pathlib import Path

from google.protobuf.descriptor import MethodDescriptor
from tocsin.type.v1 import access_pb2

from tests.architecture.syntax import nodes
from tests.contract.test_protos import METHODS, READING

ROOT = Path(__file__).resolve().parents[2]
SOURCES = [
    *(path for service in ("ingest", "escalation", "notify") for path in (ROOT / "services" / service).rglob("*.py")),
    *(ROOT / "libs/kit/tocsin_kit/rpc").glob("*.py"),
]
ALERTS = {"SendAlert", "SendAlerts", "StreamAlerts", "SendHeartbeat"}
"""An alert is its own record, a heartbeat shows in its integration, and millions of them a day would bury the log."""
WRITES = {"once", "_once", "once_together", "write_entry"}
BEFORE = {"note_before", "apply_update_mask"}
DEPTH = 4
AUDITED = [
    method
    for method in METHODS
    if not method.name.startswith(READING)
    and method.name not in ALERTS
    and method.GetOptions().Extensions[access_pb2.scope] != "internal"
]


def test_an_rpc_that_changes_something_reaches_the_audit_log() -> None:
    assert len(AUDITED) > 50
    assert [method.full_name for method in AUDITED if not reaches(method, WRITES)] == []


def test_an_rpc_that_updates_or_deletes_notes_what_was_before() -> None:
    changing = [method for method in AUDITED if method.name.startswith(("Update", "Delete"))]
    assert [method.full_name for method in changing if not reaches(method, BEFORE)] == []


def test_the_search_does_not_find_what_is_not_there() -> None:
    reads = [method for method in METHODS if method.name.startswith(("Get", "List"))]
    assert not [method.full_name for method in reads if reaches(method, WRITES | BEFORE)]


def reaches(method: MethodDescriptor, wanted: set[str]) -> bool:
    """Whether the servicer's method calls one of these functions, itself or through its own file and the use cases."""
    service = method.containing_service.name
    found = [(path, each) for path, tree in classes().get(service, ()) for each in _methods(tree, method.name)]
    assert found, f"no class serves {method.full_name}"
    return all(_calls(path, each, wanted, DEPTH) for path, each in found)


@cache
def classes() -> dict[str, list[tuple[Path, ast.ClassDef]]]:
    """The servicers, by the name of their service."""
    found: dict[str, list[tuple[Path, ast.ClassDef]]] = {}
    for path in SOURCES:
        if path.parent.name == "rpc":
            for node in nodes(path):
                if isinstance(node, ast.ClassDef):
                    for base in map(ast.unparse, node.bases):
                        if base.endswith("Servicer"):
                            service = base.rpartition(".")[2].removesuffix("Servicer")
                            found.setdefault(service, []).append((path, node))
    return found


@cache
def functions(path: Path) -> dict[str, list[ast.AST]]:
    """Those of a file, by name, methods and inner ones as well."""
    found: dict[str, list[ast.AST]] = {}
    for node in nodes(path):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found.setdefault(node.name, []).append(node)
    return found


@cache
def methods_of(package: Path) -> dict[str, list[tuple[Path, ast.AST]]]:
    """Of the classes of the use cases, by name: whose an object is, its call does not say."""
    found: dict[str, list[tuple[Path, ast.AST]]] = {}
    for path in (package / "app").rglob("*.py"):
        for node in nodes(path):
            if isinstance(node, ast.ClassDef):
                for each in node.body:
                    if isinstance(each, ast.AsyncFunctionDef):
                        found.setdefault(each.name, []).append((path, each))
    return found


@cache
def imported(path: Path) -> dict[str, tuple[Path, str]]:
    """What a file imports from the use cases of its own package: the file and the name in it, empty for the file itself."""
    package = package_of(path)
    found: dict[str, tuple[Path, str]] = {}
    for node in nodes(path):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(f"{package.name}.app"):
            for each in node.names:
                within = package.parent.joinpath(*(node.module or "").split("."))
                module, name = (within / each.name, "") if (within / "__init__.py").exists() else (within, each.name)
                found[each.asname or each.name] = module.with_suffix(".py"), name
    return found


def package_of(path: Path) -> Path:
    return next(parent for parent in path.parents if parent.name.startswith("tocsin_"))


def _methods(tree: ast.ClassDef, name: str) -> list[ast.AST]:
    """One or none: those of a service may stand in several classes."""
    return [node for node in tree.body if isinstance(node, ast.AsyncFunctionDef) and node.name == name]


def _calls(path: Path, node: ast.AST, wanted: set[str], depth: int) -> bool:
    called = _called(node)
    if any(_name(function) in wanted for function in called):
        return True
    return bool(depth) and any(
        _calls(where, inner, wanted, depth - 1)
        for function in called
        for where, inner in _meant(path, function)
        if inner is not node
    )


@cache
def _called(node: ast.AST) -> list[ast.expr]:
    return [each.func for each in ast.walk(node) if isinstance(each, ast.Call)]


def _name(function: ast.expr) -> str:
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


def _meant(path: Path, function: ast.expr) -> list[tuple[Path, ast.AST]]:
    """The functions that a call may mean."""
    name = _name(function)
    if isinstance(function, ast.Attribute):
        owner = function.value
        if isinstance(owner, ast.Name) and owner.id != "self":
            if owner.id not in imported(path):
                return []
            file, _ = imported(path)[owner.id]
            return [(file, each) for each in functions(file).get(name, ())]
        if not isinstance(owner, ast.Name):
            return methods_of(package_of(path)).get(name, [])
    elif name in imported(path):
        file, inner = imported(path)[name]
        return [(file, each) for each in functions(file).get(inner, ())]
    return [(path, each) for each in functions(path).get(name, ())]
