"""The language of templates: a restricted part of Liquid (shopify.github.io/liquid), without access to Python, files or
the network.

Its cost is bounded: values and lists are short (`variables`), no tag keeps a value, no filter repeats one, and the work
of a template is counted before it is saved. So rendering takes some milliseconds at most, and may run on the event
loop.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote_plus

from liquid import BoundTemplate, Environment, RenderContext
from liquid.ast import Node
from liquid.builtin import content, illegal, output
from liquid.builtin.expressions import FilteredExpression
from liquid.builtin.expressions.primitive import RangeLiteral
from liquid.builtin.filters import array, misc, string
from liquid.builtin.tags import case_tag, comment_tag, for_tag, if_tag, unless_tag
from liquid.exceptions import LiquidError
from liquid.expression import Expression
from liquid.filter import string_filter
from liquid.token import Token

from tocsin_notify.domain.template import BadTemplate

MOST_ITEMS: Final = 10
"""Of each list that a template can walk through."""
_MOST_TAGS: Final = 200
_LONGEST_TAG: Final = 500
_MOST_STEPS: Final = 1000
_MOST_FILTERS: Final = 4
_STEPS: Final = {"url_encode": 10}
"""The cost of filters that take longer than the others, or make a text longer. None may be used twice in a row."""
_LONGEST_ENCODED: Final = 500
_OPENING: Final = re.compile(r"\{[{%]")
_MOST_OUTPUT: Final = 131_072
_TAGS: Final = (
    content.Literal,
    output.Output,
    illegal.Illegal,
    if_tag.IfTag,
    unless_tag.UnlessTag,
    case_tag.CaseTag,
    for_tag.ForTag,
    comment_tag.CommentTag,
)


@string_filter
def _url_encode(text: str) -> str:
    """Encodes the beginning only: each character costs as much as a step of other filters, and no URL holds a whole
    text."""
    return quote_plus(text[:_LONGEST_ENCODED])


FILTERS: Final[Mapping[str, Callable[..., Any]]] = {
    "capitalize": string.capitalize,
    "default": misc.default,
    "downcase": string.downcase,
    "join": array.join,
    "newline_to_br": string.newline_to_br,
    "size": misc.size,
    "strip": string.strip,
    "truncate": string.truncate,
    "upcase": string.upcase,
    "url_encode": _url_encode,
}


class _Environment(Environment):
    block_nesting_limit = 8
    loop_iteration_limit = _MOST_STEPS
    output_stream_limit = _MOST_OUTPUT

    def setup_tags_and_filters(self, *, extra: bool = False) -> None:
        """Only these: a tag or filter that a release of the library adds is not available."""
        for tag in _TAGS:
            self.add_tag(tag)
        for name, filter_ in FILTERS.items():
            self.add_filter(name, filter_)


_PLAIN: Final = _Environment()
_HTML: Final = _Environment(autoescape=True)


@dataclass(frozen=True, slots=True)
class Unknown:
    """An unknown variable, and its place."""

    name: str
    line: int
    column: int


class Compiled:
    """One part of a template, ready to be rendered again and again."""

    def __init__(self, template: BoundTemplate, source: str) -> None:
        self._template = template
        self._source = source
        self.tags: Final = len(_OPENING.findall(source))

    def render(self, values: Mapping[str, object]) -> str:
        """The text, without blanks around it. Raises BadTemplate."""
        try:
            return self._template.render(**values).strip()
        except Exception as error:  # any fault of a template: the caller has another text
            raise _bad(error) from error

    def unknown(self, names: frozenset[str]) -> list[Unknown]:
        """The variables that are none of `names`, in their order."""
        found = []
        for variables in self._template.analyze().globals.values():
            for variable in variables:
                if str(variable) not in names:
                    found.append(Unknown(str(variable), *_place(self._source, variable.span.index)))
        return sorted(found, key=lambda each: (each.line, each.column))


def compile_template(source: str, *, html: bool = False) -> Compiled:
    """Read a template. `html`: it escapes its values. Takes some milliseconds for a long one.

    Raises BadTemplate, which says where it is wrong.
    """
    _require_closed(source)
    try:
        template = (_HTML if html else _PLAIN).from_string(source)
        _check(template)
    except BadTemplate:
        raise
    except Exception as error:  # the library lets some errors through: too deep nesting raises RecursionError
        raise _bad(error) from error
    return Compiled(template, source)


def _require_closed(source: str) -> None:
    """Each tag ends before the next one begins, and there are few. For each opened tag the library searches all text
    after it for the end, so 8,000 characters of opened tags would keep it busy for seconds.
    """
    end = 0
    for number, opening in enumerate(_OPENING.finditer(source), 1):
        start = opening.start()
        if start < end:
            raise BadTemplate(f"{opening[0]!r} cannot stand within a tag", *_place(source, start))
        end = source.find("}}" if opening[0] == "{{" else "%}", start) + 2
        if end < 2:
            raise BadTemplate(f"{opening[0]!r} is not closed", *_place(source, start))
        if end - start > _LONGEST_TAG:
            raise BadTemplate(f"a tag may have {_LONGEST_TAG} characters", *_place(source, start))
        if number > _MOST_TAGS:
            raise BadTemplate(f"there may be {_MOST_TAGS} tags", *_place(source, start))


def _check(template: BoundTemplate) -> None:
    """Raises BadTemplate for what the grammar allows and this service forbids."""
    context = RenderContext(template)
    steps = sum(_steps(node, context) for node in template.nodes)
    if steps > _MOST_STEPS:
        raise BadTemplate(
            f"it may take {steps} steps, and {_MOST_STEPS} are allowed: each tag, variable and filter is a step, and a loop has "
            f"{MOST_ITEMS} times those in it"
        )


def _steps(node: Node, context: RenderContext) -> int:
    own = 1 + sum(_steps_of(expression) for expression in node.expressions())
    inner = sum(_steps(child, context) for child in node.children(context))
    return own + inner * (MOST_ITEMS if isinstance(node, for_tag.ForNode) else 1)


def _steps_of(expression: Expression) -> int:
    if isinstance(expression, RangeLiteral):
        raise _at("a range of numbers cannot be used", expression.token)
    filters = (expression.filters or []) if isinstance(expression, FilteredExpression) else []
    names = [filter_.name for filter_ in filters]
    for filter_ in filters:
        if filter_.name not in FILTERS:
            raise _at(f"there is no filter {filter_.name!r}; there are {', '.join(FILTERS)}", filter_.token)
        if filter_.name in _STEPS and names.count(filter_.name) > 1:
            raise _at(f"{filter_.name} may be used once in a row of filters", filter_.token)
    if len(filters) > _MOST_FILTERS:
        raise _at(f"at most {_MOST_FILTERS} filters may follow one another", filters[_MOST_FILTERS].token)
    own = 1 + sum(_STEPS.get(name, 1) for name in names)
    return own + sum(_steps_of(child) for child in expression.children())


def _bad(error: Exception) -> BadTemplate:
    if isinstance(error, LiquidError) and error.message:
        return _at(str(error.message), error.token)
    if isinstance(error, RecursionError) or isinstance(error.__cause__, RecursionError):
        return BadTemplate("it is nested too deeply")
    return BadTemplate(f"it cannot be used ({type(error).__name__})")


def _at(problem: str, token: Token | None) -> BadTemplate:
    if token is None or token.start_index < 0:
        return BadTemplate(problem)
    return BadTemplate(problem, *_place(token.source, token.start_index))


def _place(source: str, index: int) -> tuple[int, int]:
    """Line and column, from 1."""
    before = source[:index]
    return before.count("\n") + 1, index - (before.rfind("\n") + 1) + 1
