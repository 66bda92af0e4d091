"""What an organisation's templates may do, and what they can never do: keep a page from a user, or a person from answering."""

import contextlib
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tocsin.notify.v1.notification_pb2 import NotificationLink
from tocsin_notify.channels.base import Delivery
from tocsin_notify.channels.mail_html import mail_html
from tocsin_notify.channels.registry import TYPES
from tocsin_notify.channels.sms_text import segments, sms_text
from tocsin_notify.channels.text import body, payload, subject
from tocsin_notify.channels.voice_text import spoken
from tocsin_notify.domain.page import Channel, Kind
from tocsin_notify.domain.template import FIXED, BadTemplate, Part
from tocsin_notify.templates.chosen import Source, TenantTemplates
from tocsin_notify.templates.language import FILTERS, compile_template
from tocsin_notify.templates.samples import delivery_of, extremes, sample_job
from tocsin_notify.templates.variables import KNOWN, NAMES, values_of

LINK = "https://tocsin.example.com/p/abc"
PAGE = delivery_of(Kind.ESCALATION, sample_job(Kind.ESCALATION), link=LINK)


def rendered(source: str, part: Part = Part.TEXT) -> str:
    return compile_template(source).render(values_of(PAGE, part))


def worded(**parts: str) -> Delivery:
    template = TenantTemplates([Source("templates/x", Kind.ESCALATION, "", {Part(k): v for k, v in parts.items()})])
    found = template.find(Kind.ESCALATION, "en")
    assert found is not None
    wording, faults = found.word(PAGE, Part)
    return replace(PAGE, wording=wording, faults=tuple(map(str, faults.values())))


def test_a_template_says_what_it_is_made_of() -> None:
    source = (
        "{{ incident.severity | upcase }} {{ incident.title }}{% if level > 0 %}, level {{ level }}{% endif %}"
        "{% for link in incident.links %} {{ link.text }} {{ link.href }}{% endfor %} {{ default }}"
    )
    said = rendered(source, Part.SUBJECT)
    assert said == (
        "CRITICAL Disk full on db-1, level 1 Runbook https://wiki.example.com/disk-full [critical] Disk full on db-1 (level 1)"
    )


def test_a_link_that_is_written_whole_is_a_text() -> None:
    link = "Runbook: https://wiki.example.com/disk-full"
    whole = (
        "{{ incident.links }}|{{ incident.links | join: ', ' }}|{% for one in incident.links %}{{ one }}{% endfor %}"
    )
    assert rendered(whole) == f"{link}|{link}|{link}"
    unnamed = replace(PAGE, job=type(PAGE.job)(ordered_links=[NotificationLink(href="https://example.com/?a=<b>")]))
    source = compile_template("{{ incident.links }}", html=True)
    assert source.render(values_of(unnamed, Part.HTML)) == "https://example.com/?a=&lt;b&gt;"


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("one\n  {{ level | nonsense }}", "line 2, column 14: there is no filter 'nonsense'"),
        ("{% if level %}", "expected tag endif"),
        ("a {{ level", "line 1, column 3: '{{' is not closed"),
        ("{{ '{{' }}", "line 1, column 5: '{{' cannot stand within a tag"),
        ("{% assign a = 1 %}", "line 1, column 4: unexpected tag 'assign'"),
        ("{% include 'x' %}", "unexpected tag 'include'"),
        ("{% for a in (1..9) %}{% endfor %}", "a range of numbers cannot be used"),
        ("{{ level | upcase | upcase | upcase | upcase | upcase }}", "at most 4 filters"),
        ("{{ level | url_encode | url_encode }}", "url_encode may be used once"),
        ("{{" * 4000, "line 1, column 1: '{{' is not closed"),
        ("{{ level }}" * 201, "there may be 200 tags"),
        ("{{ " + "level." * 100 + "}}", "a tag may have 500 characters"),
        ("{{ " + "level[" * 80 + "0" + "]" * 80 + "}}", "a tag may have 500 characters"),
        ("{% if level %}" * 20 + "{% endif %}" * 20, "block nesting limit"),
        (
            "{% for a in incident.links %}{% for b in incident.links %}{{ b.href }}{{ b.href }}{{ b.href }}{{ b.href }}"
            "{{ b.href }}{% endfor %}{% endfor %}",
            "steps",
        ),
    ],
)
def test_what_a_template_may_not_do_is_named_with_its_place(source: str, problem: str) -> None:
    with pytest.raises(BadTemplate) as caught:
        compile_template(source)
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    "source",
    [
        "{{ incident.__class__ }}",
        "{{ incident.links.__class__.__mro__ }}",
        "{{ incident['__init__'].__globals__ }}",
        "{{ level.real }}",
        "{{ incident.title.__len__ }}",
        "{{ forloop }}{{ self }}{{ request }}{{ env }}{{ template }}",
    ],
)
def test_nothing_but_the_values_is_within_reach(source: str) -> None:
    assert rendered(source) == ""


def test_an_unknown_variable_is_named_with_its_place() -> None:
    compiled = compile_template("{{ incident.title }}\n{% if incident.tilte %}x{% endif %} {{ nobody }}")
    assert [(each.name, each.line, each.column) for each in compiled.unknown(KNOWN)] == [
        ("incident.tilte", 2, 7),
        ("nobody", 2, 40),
    ]


def test_a_value_is_text_and_never_a_template() -> None:
    made = replace(PAGE, job=sample_job(Kind.ESCALATION))
    made.job.title = "{{ level }}{% raw %}"
    assert compile_template("{{ incident.title }}").render(values_of(made, Part.TEXT)) == "{{ level }}{% raw %}"


def test_the_longest_page_is_no_reason_to_fail() -> None:
    source = (
        "{{ incident.title }}\n{{ incident.source }}\n{{ text }}\n"
        "{% for link in incident.links %}{{ link.text }}: {{ link.href }}\n{% endfor %}{{ default }}"
    )
    compiled = compile_template(source)
    for kind in set(Kind) - FIXED:
        for delivery in extremes(kind, "en"):
            assert len(compiled.render(values_of(delivery, Part.TEXT))) < 40_000


def test_the_text_of_a_mail_always_leads_to_the_answer() -> None:
    assert body(worded(text="Look at {{ incident.title }}")) == f"Look at Disk full on db-1\n\nAnswer: {LINK}\n"
    assert body(worded(text="{{ answer_url }} now")).count(LINK) == 1
    spoiled = body(worded(text="{{ answer_url }}x"))
    assert spoiled.endswith(f"\nAnswer: {LINK}\n"), "with a letter behind it, a link leads nowhere"


def test_a_mail_as_html_escapes_its_values_and_keeps_its_link_with_any_template() -> None:
    made = replace(PAGE, job=sample_job(Kind.ESCALATION))
    made.job.title = '<script>alert(1)</script>"'
    source = (
        '<div style="display:none;color:red"><b onclick="x">{{ incident.title }}</b><script>x</script>'
        '<a href="javascript:x">y</a><form><img src="https://evil.example"></form><!-- {{ level }}'
    )
    text = compile_template(source, html=True).render(values_of(made, Part.HTML))
    document = mail_html(replace(made, wording={Part.HTML: text}))
    assert document.partition("<body>")[2] == (
        '<div style="color:red"><b>&lt;script&gt;alert(1)&lt;/script&gt;"</b><a rel="noreferrer">y</a></div>'
        f'<p><a href="{LINK}">Answer</a></p></body></html>'
    )
    assert mail_html(PAGE) == "", "without a template the mail is text alone"


def test_a_text_message_ends_with_the_link_however_long_the_template_is() -> None:
    long = sms_text(worded(sms="{{ incident.title }} " * 20), 2)
    assert long.endswith(f"... {LINK}")
    assert segments(long) == 2
    assert sms_text(worded(sms="Answer {{ answer_url }} {{ incident.title }}"), 2) == f"Answer Disk full on db-1 {LINK}"


def test_a_call_names_its_keys_and_a_subject_is_one_line() -> None:
    said = spoken(worded(voice="Wake up: {{ incident.title }} <&"), "https://tocsin.example.com/key")
    assert said.count("Wake up: Disk full on db-1 &lt;&amp; Press 1 to acknowledge.") == 2
    assert len(spoken(worded(voice="{{ incident.title }}" * 45), "https://tocsin.example.com/key")) < 4000
    assert (
        subject(worded(subject="{{ incident.title }}\r\nBcc: eve@example.com"))
        == "Disk full on db-1 Bcc: eve@example.com"
    )


def test_a_part_that_fails_or_says_nothing_is_the_default_text() -> None:
    made = worded(subject="{{ about }}", text="{{ incident.title | truncate: 'x' }}", chat="Fine")
    assert subject(made) == subject(PAGE)
    assert body(made) == body(PAGE)
    assert [fault.partition(":")[0] for fault in made.faults] == ["it says nothing", "line 1, column 21"]


def test_a_template_of_the_users_language_comes_before_that_of_all() -> None:
    of_all = Source("templates/a", Kind.ESCALATION, "", {Part.CHAT: "all"})
    german = Source("templates/b", Kind.ESCALATION, "de", {Part.CHAT: "de"})
    templates = TenantTemplates([of_all, german])
    found = [templates.find(Kind.ESCALATION, language) for language in ("de", "en")]
    assert [each and each.name for each in found] == ["templates/b", "templates/a"]
    assert templates.find(Kind.RESOLUTION, "de") is None


def test_programs_are_told_the_same_with_any_template() -> None:
    assert payload(worded(subject="Ours")) == payload(PAGE)
    assert [channel for channel, type_ in TYPES.items() if not type_.parts] == [Channel.WEBHOOK, Channel.CONSOLE]


def test_the_page_about_templates_names_each_variable_and_filter() -> None:
    page = (Path(__file__).parents[3] / "docs/templates.md").read_text()
    assert dict(re.findall(r"^\| `([a-z_.]+)` \| (.*) \|$", page.partition("## Variables")[2], re.MULTILINE)) == NAMES
    [filters] = re.findall(r"^- Filters: (.*?);", page, re.MULTILINE)
    assert re.findall(r"`(\w+)`", filters) == list(FILTERS)


TAGS = [
    "{{",
    "}}",
    "{%",
    "%}",
    "{{level}}",
    "{%if",
    "{%endif%}",
    "{%for",
    "{%endfor%}",
    "{%case",
    "{%when",
    "{%comment%}",
]
PIECES = [*TAGS, "|", "upcase", ":", "'", '"', "[", "]", "-", "(", "..", "a.b", "\n", "é", "{%else%}"]


@given(st.lists(st.sampled_from(PIECES), max_size=60).map(" ".join))
def test_any_text_is_read_or_refused(source: str) -> None:
    with contextlib.suppress(BadTemplate):
        compile_template(source).render(values_of(PAGE, Part.TEXT))


def test_a_long_text_is_encoded_no_further_than_a_url_needs() -> None:
    """Each character costs as much as another filter does on a whole text: sixty of them took 30 ms, in front of all pages."""
    made = compile_template("{{ text | url_encode }}").render({"text": "ä€" * 2048})
    assert made == "%C3%A4%E2%82%AC" * 250
