"""What an RPC does is told once, in its contract. Its method says so, and what only its code knows."""

import ast

from tests.architecture.syntax import nodes
from tests.architecture.test_boundaries import ROOT, SOURCES


def test_the_docstring_of_an_rpc_refers_to_the_contract() -> None:
    told = {
        f"{path.relative_to(ROOT)}: {method.name}": ast.get_docstring(method) or ""
        for path in SOURCES
        if path.parent.name == "rpc" and "services" in path.parts
        for service in nodes(path)
        if isinstance(service, ast.ClassDef) and service.name.endswith("Service")
        for method in service.body
        if isinstance(method, ast.AsyncFunctionDef) and method.name[0].isupper()
    }
    assert len(told) > 150
    assert [name for name, docstring in told.items() if not docstring.startswith("See the contract.")] == []
