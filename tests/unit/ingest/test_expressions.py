"""JMESPath within bounds: what is wrong with an expression is said with its place, and none takes more than its steps."""

import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tocsin_ingest.app.integrations.expressions import STEPS, Evaluation, TooExpensive, compile_expression
from tocsin_kit.errors import TocsinError

from tests.rounds import examples

DOCUMENT = {
    "items": [{"a": number, "b": "x" * 50, "tags": ["k", "v"]} for number in range(3000)],
    "long": "y" * 500_000,
    "few": [1, "two", None, {"a": {"b": [3]}}],
    "n": 1e308,
}


def search(text: str, value: Any = None) -> Any:
    return compile_expression(text, "p").search(DOCUMENT if value is None else value, Evaluation())


@pytest.mark.parametrize(
    ("text", "gives"),
    [
        ("few[3].a.b[0]", 3),
        ("few[1]", "two"),
        ("nothing.at.all", None),
        ("items[?a == `7`].b | length(@)", 1),
        ("join('-', [few[1], 'x'])", "two-x"),
        ("sort_by(items[:3], &a)[-1].a", 2),
        ("few[0] == `1` && 'yes' || 'no'", "yes"),
        ("{k: few[1], v: n}", {"k": "two", "v": 1e308}),
        ("items[:2].tags[]", ["k", "v", "k", "v"]),
    ],
)
def test_it_gives_what_jmespath_gives(text: str, gives: Any) -> None:
    assert search(text) == gives


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a[", "is not JMESPath: it is not complete"),
        ("a..b", "is not JMESPath: unexpected '.' at character 2"),
        ("a | #", "is not JMESPath: Unknown token # at character 4"),
        ("`{`", "is not JMESPath: a literal between ` and ` must be JSON"),
        ("shout(a)", "there is no function shout()"),
        ("length(a, b)", "length() takes 1 values, and has 2"),
        ("join('x')", "join() takes 2 values, and has 1"),
        ("(" * 900, "is nested too deeply"),
        ("to_string(" * 60 + "@" + ")" * 60, "is nested more than 40 levels deep"),
        ("[@,@]" + " | [@,@]" * 100, "has more than 200 parts"),
        *((text, "has `&` where a value is wanted") for text in ("&a", "{a: [&b]}", "a[?&b]", "not_null(a, &b)")),
        *((text, "has `&` where a value is wanted") for text in ("map(&[&a], b)", "&a == &b", "to_string(&a)")),
    ],
)
def test_what_is_wrong_is_said_with_its_place(text: str, told: str) -> None:
    with pytest.raises(TocsinError) as raised:
        compile_expression(text, "integration.mapping.summary")
    [field] = raised.value.fields
    assert (field.field, field.description[: len(told)]) == ("integration.mapping.summary", told)


@pytest.mark.parametrize(
    "text",
    [
        " | ".join(["[@, @]"] * 20) + " | to_string(@)",
        " | ".join(["[@, @][]"] * 20),
        " | ".join(["{a: @, b: @}"] * 20),
        "join(long, items[*].b)",
        "join(long, [long, long])",
        "to_string(@)",
        "reverse(long)",
        "contains(long, 'zz')",
        "items[*].tags[*]",
        "items[*].[a, b, tags, a, b, tags]",
        "items[?tags == ['k', 'v']]",
        "items == items",
        "map(&[@, @], items)",
        "[items, items, items, items][][][][]",
        "[long, long, long][*].[@, @, @]",
    ],
)
def test_what_would_take_too_long_is_cut(text: str) -> None:
    with pytest.raises(TooExpensive):
        search(text)


@pytest.mark.parametrize(
    "text", ["abs('x')", "few[1] < n", "ceil(n) | to_number('x') | abs(@)", "sort(few)", "max(few)"]
)
def test_a_value_that_does_not_fit_is_nothing_or_an_error_of_its_own(text: str) -> None:
    told = ""
    try:
        assert search(text) is None
    except ValueError as error:
        told = str(error)
    assert len(told) < 200


def test_what_a_call_would_make_is_counted_before_it_is_made() -> None:
    """A call cannot be interrupted: 100 MB would be there before they are counted."""
    tracemalloc.start()
    try:
        with pytest.raises(TooExpensive):
            search("join(glue, parts)", {"glue": "x" * 100_000, "parts": [""] * 1000})
        assert tracemalloc.get_traced_memory()[1] < 10 << 20
    finally:
        tracemalloc.stop()


def test_a_value_that_is_nested_too_deeply_is_an_error_of_its_own() -> None:
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises((ValueError, TooExpensive)):
        search("@ == [@]", deep)


LEAVES = st.sampled_from(
    ["items", "few", "long", "n", "items[*].a", "items[?a > `5`]", "@", "*", "'x'", "`1`", "few[3].a"]
)
ONE = [
    "({0})[*].a",
    "({0})[]",
    "({0})[:2]",
    "({0})[?@ == `1`]",
    "length({0})",
    "to_string({0})",
    "reverse({0})",
    "keys({0})",
    "!({0})",
]
TWO = [
    "({0}) | ({1})",
    "[{0}, {1}]",
    "{{a: {0}, b: {1}}}",
    "({0}) || ({1})",
    "({0}) == ({1})",
    "({0}) < ({1})",
    "({0})[*].[{1}]",
]
CALLS = [
    "join('', {0})",
    "merge({0}, {1})",
    "map(&({0}), {1})",
    "sort_by({0}, &({1}))",
    "not_null({0}, {1})",
    "contains({0}, {1})",
]
EXPRESSIONS = st.recursive(
    LEAVES,
    lambda inner: st.builds(str.format, st.sampled_from([*ONE, *TWO, *CALLS]), inner, inner),
    max_leaves=20,
)


@settings(max_examples=examples(400), deadline=None)
@given(EXPRESSIONS | st.text(max_size=30))
def test_any_expression_is_refused_evaluated_or_cut(text: str) -> None:
    try:
        expression = compile_expression(text, "p")
    except TocsinError:
        return
    evaluation = Evaluation()
    try:
        found = expression.search(DOCUMENT, evaluation)
    except (TooExpensive, ValueError):
        return
    # What an expression makes is no larger than its steps; what it only selects is no larger than the document.
    assert len(json.dumps(found, default=str)) <= len(json.dumps(DOCUMENT)) + 20 * STEPS


_PARTS_OF_EXPRESSIONS = (
    *(
        "a",
        "@",
        "'x'",
        "`1`",
        "`[1, null]`",
        "to_number('nan')",
        "&a",
        "&[@]",
        "items[0]",
        "few",
        "n",
        '""',
        '"\\u0000"',
    ),
    *(f"{name}(%)" for name in ("keys", "values", "to_string", "to_array", "type", "not_null", "length", "sum", "max")),
    *("map(%, %)", "sort_by(%, %)", "contains(%, %)", "merge(%, %)", "join(%, %)", "% == %", "% < %", "!%", "%[?%]"),
    *("[%, %]", "{k: %, v: %}", "%[*]", "%[]", "%.*", "% | %", "% && %", "% || %", "%[::-1]", "%[0]"),
)


@st.composite
def expressions(draw: st.DrawFn) -> str:
    text = "%"
    for _ in range(draw(st.integers(1, 6))):
        text = text.replace("%", draw(st.sampled_from(_PARTS_OF_EXPRESSIONS)), 1)
    return text.replace("%", "a")


@settings(max_examples=examples(300))
@given(expressions())
def test_what_an_expression_gives_is_json(text: str) -> None:
    """Or it is told why there is nothing: no other error, and nothing that cannot be shown."""
    try:
        given = search(text)
    except (TocsinError, TooExpensive, ValueError):
        return
    json.dumps(given)
