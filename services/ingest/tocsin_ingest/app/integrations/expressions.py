"""JMESPath expressions that tenants write, evaluated within a number of steps.

An expression of a few hundred characters can double a value again and again (`[@, @] | [@, @] | …`), so what matters is counted
while it is evaluated: each part of the expression that is visited, and the size of each value that is made. A step takes about a
microsecond. https://jmespath.org/specification.html
"""

import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, Final, cast

import jmespath
from jmespath.exceptions import ArityError, JMESPathError, JMESPathTypeError, LexerError, ParseError
from jmespath.functions import TYPES_MAP, Functions
from jmespath.visitor import Options, TreeInterpreter
from tocsin_kit.errors import TocsinError, invalid

STEPS: Final = 10_000
"""For all expressions that are applied to one alert."""
_PARTS: Final = 200
"""Of one expression."""
_DEPTH: Final = 40
_CHARACTERS: Final = 16
"""Of a text that is made; this many count as one step."""
_SHOWN: Final = 100

_Node = dict[str, Any]


class TooExpensive(Exception):
    """The steps are used up."""


class Expression:
    """One that can be evaluated. `text`: as it was written."""

    __slots__ = ("_node", "text")

    def __init__(self, text: str, node: _Node) -> None:
        self.text = text
        self._node = node

    def search(self, value: Any, evaluation: "Evaluation") -> Any:
        """What it gives; None for nothing. Raises TooExpensive, and ValueError with the reason when it cannot be evaluated."""
        try:
            return evaluation.visit(self._node, value)
        except TooExpensive:
            raise
        except JMESPathTypeError as error:
            given = TYPES_MAP.get(error.actual_type, error.actual_type)
            raise ValueError(f"{error.function_name}() cannot be used with a value of the type {given}") from error
        except RecursionError:
            raise ValueError("the value is nested too deeply") from None
        except (JMESPathError, TypeError, ArithmeticError, ValueError) as error:
            raise ValueError(f"cannot be evaluated: {str(error).partition(chr(10))[0][:_SHOWN]}") from error


def compile_expression(text: str, place: str) -> Expression:
    """Raises INVALID_FIELD at `place`, with the place in the expression where that is known."""
    try:
        with warnings.catch_warnings():
            # Invalid JSON in a literal would be taken as a text.
            warnings.simplefilter("error", PendingDeprecationWarning)
            # The compiled form is a tree of dicts, which is private to the library.
            node = cast(_Node, jmespath.compile(text).parsed)
        parts = list(_parts(node))
    except RecursionError:
        raise invalid(place, "is nested too deeply") from None
    except PendingDeprecationWarning:
        raise invalid(
            place, 'is not JMESPath: a literal between ` and ` must be JSON, such as `5` or `"text"`'
        ) from None
    except LexerError as error:
        raise invalid(place, f"is not JMESPath: {error.message} at character {error.lexer_position}") from None
    except ArityError as error:
        raise invalid(place, f"is not JMESPath: {error}") from None
    except ParseError as error:
        raise invalid(place, f"is not JMESPath: {_parse_error(text, error)}") from None
    except (JMESPathError, ValueError) as error:
        raise invalid(place, f"is not JMESPath: {str(error)[:_SHOWN]}") from None
    if len(parts) > _PARTS:
        raise invalid(place, f"has more than {_PARTS} parts")
    if max(depth for _, depth in parts) > _DEPTH:
        raise invalid(place, f"is nested more than {_DEPTH} levels deep")
    _check_references({"type": "", "children": [node]}, place)
    for each, _ in parts:
        if each["type"] == "function_expression":
            _check_call(each, place)
        _check_references(each, place)
    return Expression(text, node)


class Evaluation(TreeInterpreter):  # type: ignore[misc] # the library has no types
    """The steps of all expressions that are applied to one value."""

    def __init__(self, steps: int = STEPS) -> None:
        super().__init__(Options(custom_functions=_FUNCTIONS))
        self._left = steps
        self.COMPARATOR_FUNC = {name: partial(self._compare, each) for name, each in _COMPARE.items()}

    def take(self, steps: int) -> None:
        """Raises TooExpensive."""
        self._left -= steps
        if self._left < 0:
            raise TooExpensive

    def visit(self, node: _Node, *args: Any, **kwargs: Any) -> Any:
        """One part of an expression, on one value."""
        self.take(1)
        return super().visit(node, *args, **kwargs)

    def visit_multi_select_list(self, node: _Node, value: Any) -> Any:
        """Its parts may be the same value, which counts each time."""
        return self._made(super().visit_multi_select_list(node, value))

    def visit_multi_select_dict(self, node: _Node, value: Any) -> Any:
        """As a list."""
        return self._made(super().visit_multi_select_dict(node, value))

    def visit_slice(self, node: _Node, value: Any) -> Any:
        """A copy."""
        return self._counted(super().visit_slice(node, value))

    def visit_flatten(self, node: _Node, value: Any) -> Any:
        """A copy."""
        return self._counted(super().visit_flatten(node, value))

    def visit_function_expression(self, node: _Node, value: Any) -> Any:
        """Its arguments count before it is called, since a call cannot be interrupted."""
        given = [self.visit(child, value) for child in node["children"]]
        for each in given:
            self._made(each)
        if node["value"] == "join" and isinstance(given[0], str) and isinstance(given[1], list):
            self.take(len(given[0]) * len(given[1]) // _CHARACTERS)
        return self._made(self._functions.call_function(node["value"], given))

    def _compare(self, function: Callable[[Any, Any], Any], one: Any, other: Any) -> Any:
        # Two values are compared in one go, however large they are.
        return function(self._made(one), self._made(other))

    def _made(self, value: Any) -> Any:
        if isinstance(value, (list, dict, str)):
            self.take(_size(value, self._left))
        return value

    def _counted(self, value: Any) -> Any:
        if isinstance(value, list):
            self.take(len(value))
        return value


_FUNCTIONS: Final = Functions()
_COMPARE: Final[Mapping[str, Callable[[Any, Any], Any]]] = TreeInterpreter.COMPARATOR_FUNC


def _size(value: Any, most: int) -> int:
    """Of a value with all nested values; a value that occurs twice counts twice. Not more than a little over `most` is counted."""
    size, waiting = 0, [value]
    while waiting and size <= most:
        each = waiting.pop()
        size += 1
        if isinstance(each, str):
            size += len(each) // _CHARACTERS
        elif isinstance(each, dict):
            size += sum(len(name) // _CHARACTERS for name in each) + len(each)
            waiting.extend(each.values())
        elif isinstance(each, list):
            waiting.extend(each)
    return size + len(waiting)


def _parts(node: _Node) -> Iterator[tuple[_Node, int]]:
    waiting = [(node, 1)]
    while waiting:
        each, depth = waiting.pop()
        yield each, depth
        waiting.extend((child, depth + 1) for child in each["children"] if isinstance(child, dict))


def _check_call(node: _Node, place: str) -> None:
    name, given = node["value"], len(node["children"])
    known = Functions.FUNCTION_TABLE.get(name)
    if known is None:
        raise invalid(place, f"there is no function {name[:_SHOWN]}()")
    wanted = known["signature"]
    variadic = bool(wanted) and bool(wanted[-1].get("variadic"))
    if given < len(wanted) or (given > len(wanted) and not variadic):
        raise invalid(place, f"{name}() takes {len(wanted)} values{' or more' * variadic}, and has {given}")


def _check_references(node: _Node, place: str) -> None:
    """A reference is no value: except in a call that expects one, the library would return it unchanged."""
    wanted = Functions.FUNCTION_TABLE[node["value"]]["signature"] if node["type"] == "function_expression" else ()
    for index, child in enumerate(node["children"]):
        if isinstance(child, dict) and child["type"] == "expref":
            types = wanted[min(index, len(wanted) - 1)]["types"] if wanted else ()
            if "expref" not in types:
                raise invalid(place, "has `&` where a value is wanted; only map, sort_by, min_by and max_by take it")


def _parse_error(text: str, error: ParseError) -> str:
    if error.token_value is None or error.lex_position >= len(text):
        return "it is not complete"
    return f"unexpected {str(error.token_value)[:_SHOWN]!r} at character {error.lex_position}"


def too_expensive(place: str) -> TocsinError:
    """The error when the steps are used up."""
    return invalid(place, f"its mapping takes more than {STEPS} steps; use simpler expressions")
