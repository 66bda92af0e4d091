"""Alerts out of JSON of any form, by a mapping."""

from collections.abc import Mapping
from typing import Any, Final

from tocsin.ingest.v1.alert_pb2 import ALERT_ACTION_TRIGGER, AlertAction, AlertInput
from tocsin.type.v1.severity_pb2 import Severity
from tocsin_kit.errors import TocsinError, invalid

from tocsin_ingest.app.integrations.compile_mapping import CompiledMapping
from tocsin_ingest.app.integrations.expressions import Evaluation, TooExpensive, too_expensive
from tocsin_ingest.http import fit
from tocsin_ingest.http.format import Item
from tocsin_ingest.http.severities import severity_of

_KEY_LENGTH: Final = 255


def alerts_of(mapping: CompiledMapping, body: Any) -> list[Any]:
    """The body's alerts. Raises INVALID_FIELD when the mapping gives no list and no object."""
    expression = mapping.expressions["alerts"]
    try:
        found = expression.search(body, Evaluation())
    except TooExpensive:
        raise too_expensive("mapping.alerts") from None
    except ValueError as error:
        raise invalid("mapping.alerts", str(error)) from error
    if isinstance(found, dict):
        return [found]
    if not isinstance(found, list):
        raise invalid("mapping.alerts", f"gives no list of alerts but {_kind(found)}")
    return found


def item(mapping: CompiledMapping, client: str, given: Any, place: str) -> Item:
    """One alert. Raises INVALID_FIELD at `place`, naming the field of the mapping."""
    return _Reading(mapping, client, given, place).item()


class _Reading:
    """One alert, with the steps that its expressions share."""

    def __init__(self, mapping: CompiledMapping, client: str, given: Any, place: str) -> None:
        self._mapping = mapping
        self._client = client
        self._given = given
        self._place = place
        self._evaluation = Evaluation()

    def item(self) -> Item:
        action = self._action()
        labels = self._labels()
        alert = AlertInput(
            action=action,
            dedup_key=fit.key(self._get("dedup_key"), _KEY_LENGTH),
            summary=fit.text(self._get("summary"), fit.SUMMARY).strip(),
            source=fit.text(self._get("source"), fit.NAME).strip(),
            severity=self._severity(),
            client=self._client,
        )
        if not alert.summary and action == ALERT_ACTION_TRIGGER:
            raise self._wrong("summary", "gives nothing, and a trigger must say what happened")
        if not alert.dedup_key and not labels and action != ALERT_ACTION_TRIGGER:
            raise self._wrong("dedup_key", "gives nothing, so it is not known which alert is meant")
        fit.set_labels(alert, labels)
        self._add_links(alert)
        details = self._get("details") if "details" in self._mapping.expressions else self._given
        fit.set_details(alert, details if isinstance(details, dict) else {} if details is None else {"value": details})
        return Item(alert, labels or None)

    def _get(self, field: str) -> Any:
        expression = self._mapping.expressions.get(field)
        if expression is None:
            return None
        try:
            return expression.search(self._given, self._evaluation)
        except TooExpensive:
            raise too_expensive(self._place) from None
        except ValueError as error:
            raise self._wrong(field, str(error)) from error

    def _wrong(self, field: str, what: str) -> TocsinError:
        return invalid(self._place, f"{self._mapping.names.get(field, f'mapping.{field}')} {what}")

    def _action(self) -> AlertAction.ValueType:
        word = fit.whole(self._get("action")).strip()
        if not word:
            return ALERT_ACTION_TRIGGER
        found = self._mapping.actions.get(word.lower())
        if found is None:
            shown = fit.text(word, fit.NAME)
            if "action" in self._mapping.names:
                raise self._wrong("action", f"is {shown!r}, which {self._client} is not known to send")
            raise self._wrong("action", f"gives {shown!r}, which is no action; say in mapping.actions what it means")
        return found

    def _severity(self) -> Severity.ValueType:
        given = self._get("severity")
        word = fit.whole(given).strip().lower()
        return self._mapping.severities.get(word) or severity_of(word)

    def _labels(self) -> Mapping[str, str]:
        given = self._get("labels")
        if given is None:
            return {}
        if not isinstance(given, dict):
            raise self._wrong("labels", f"gives no object but {_kind(given)}")
        fit.require_few(given)
        return {name: fit.whole(value) for name, value in given.items() if value is not None}

    def _add_links(self, alert: AlertInput) -> None:
        given = self._get("links")
        for each in given if isinstance(given, list) else [given]:
            if isinstance(each, dict):
                fit.add_link(alert, each.get("href"), each.get("text"))
            else:
                fit.add_link(alert, each, "")


def _kind(value: Any) -> str:
    match value:
        case None:
            return "nothing"
        case bool():
            return "a truth value"
        case int() | float():
            return "a number"
        case str():
            return "a text"
        case list():
            return "a list"
    return "an object"
