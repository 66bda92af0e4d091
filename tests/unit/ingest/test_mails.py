"""What mails do, and to which alert."""

from typing import Any

import pytest
from tocsin.ingest.v1.integration_service_pb2 import MailRules
from tocsin_ingest.app.integrations.compile_mail import compile_mail
from tocsin_ingest.domain.mails import Refusal, Rules, judge, key_of
from tocsin_ingest.domain.message import Action
from tocsin_kit.errors import TocsinError
from tocsin_kit.mail.reading import Mail

NAGIOS = MailRules(resolve_subject=r"^\*\* RECOVERY", open_subject=r"^\*\* PROBLEM")


def mail(subject: str = "disk full", text: str = "", **fields: Any) -> Mail:
    return Mail(subject=subject, text=text, **fields)


def test_without_rules_each_mail_is_a_trigger() -> None:
    assert judge(Rules(), mail(), bounce=False) is Action.TRIGGER
    assert judge(compile_mail(MailRules()), mail("OK"), bounce=False) is Action.TRIGGER


def test_what_resolves_is_looked_for_first() -> None:
    rules = compile_mail(MailRules(resolve_subject="(?i)ok|recovered", resolve_body="(?i)all clear"))
    assert judge(rules, mail("Recovered: disk", "it is all clear now"), bounce=False) is Action.RESOLVE
    # Both of a pair must hold.
    assert judge(rules, mail("Recovered: disk", "no word of it"), bounce=False) is Action.TRIGGER
    assert judge(rules, mail("Recovered: disk", " " * 4096 + "all clear"), bounce=False) is Action.TRIGGER


def test_what_neither_opens_nor_resolves_is_refused() -> None:
    rules = compile_mail(NAGIOS)
    assert judge(rules, mail("** PROBLEM: disk **"), bounce=False) is Action.TRIGGER
    assert judge(rules, mail("** RECOVERY: disk **"), bounce=False) is Action.RESOLVE
    assert judge(rules, mail("your invoice"), bounce=False) is Refusal.NO_RULE


def test_automatic_answers_and_bounces_page_no_user_unless_the_integration_wants_them() -> None:
    wanted = compile_mail(MailRules(take_automatic=True))
    for given_mail, bounce in ((mail(automatic=True), False), (mail(), True)):
        assert judge(Rules(), given_mail, bounce=bounce) is Refusal.AUTOMATIC
        assert judge(wanted, given_mail, bounce=bounce) is Action.TRIGGER
    assert judge(wanted, mail(own=True), bounce=False) is Refusal.OWN


@pytest.mark.parametrize(
    ("subject", "key"),
    [
        ("Disk  full on\tdb-1", "disk full on db-1"),
        ("Re: AW: Fwd: RE[2]: disk full on db-1", "disk full on db-1"),
        ("** PROBLEM: disk full **", ": disk full **"),
        ("Re: ** RECOVERY: disk full **", ": disk full **"),
        ("Re:", "re:"),
        ("", ""),
        ("Regex: broken", "regex: broken"),
    ],
)
def test_an_alert_is_known_by_what_its_subject_is_about(subject: str, key: str) -> None:
    assert key_of(compile_mail(NAGIOS), subject) == key


ICINGA = MailRules(
    resolve_subject=r"^\[RECOVERY\] (?P<about>.*) is \w+!$", open_subject=r"^\[PROBLEM\] (?P<about>.*) is \w+!$"
)
NAGIOS_CORE = MailRules(
    resolve_subject=r"^\*\* RECOVERY (?P<about>.*) is \w+ \*\*$",
    open_subject=r"^\*\* PROBLEM (?P<about>.*) is \w+ \*\*$",
)


@pytest.mark.parametrize(
    ("rules", "subjects", "key"),
    [
        (
            ICINGA,  # recorded from Icinga 2.13 with the scripts that Debian ships
            [
                "[PROBLEM] disk /var on db-1 (Köln) is WARNING!",
                "[PROBLEM] disk /var on db-1 (Köln) is CRITICAL!",
                "Re: [RECOVERY] disk /var on db-1 (Köln) is OK!",
            ],
            "disk /var on db-1 (köln)",
        ),
        (
            NAGIOS_CORE,  # as in the commands.cfg that comes with Nagios Core 4
            ["** PROBLEM Service Alert: db-1/disk is CRITICAL **", "** RECOVERY Service Alert: db-1/disk is OK **"],
            "service alert: db-1/disk",
        ),
        (MailRules(open_subject="^PROBLEM: (?P<about>.*)?"), ["PROBLEM: "], "problem:"),
        (MailRules(open_subject="^PROBLEM: (?P<about>ab)?"), ["PROBLEM: disk"], "disk"),
        (MailRules(open_subject="^(PROBLEM|TROUBLE): "), ["PROBLEM: disk", "TROUBLE: disk"], "disk"),
    ],
)
def test_a_rule_names_what_the_subject_is_about(rules: MailRules, subjects: list[str], key: str) -> None:
    """The state stands at the end of a subject, and differs between the problem and its recovery."""
    compiled = compile_mail(rules)
    assert {key_of(compiled, each) for each in subjects} == {key}


def test_an_expression_that_is_none_is_named() -> None:
    with pytest.raises(TocsinError, match=r"integration.mail.open_body: is not a regular expression"):
        compile_mail(MailRules(open_body="("))
    with pytest.raises(TocsinError, match=r"at most 2000 are allowed"):
        compile_mail(MailRules(open_subject="[a-z]{1000}", resolve_body="[a-z]{1000}"))
