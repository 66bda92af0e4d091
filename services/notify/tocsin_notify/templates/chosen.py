"""The templates of one tenant, compiled: which one applies to a message, and the texts that it gives."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from tocsin_notify.channels.base import Delivery
from tocsin_notify.domain.page import Kind
from tocsin_notify.domain.template import BadTemplate, Part, Wording
from tocsin_notify.templates.language import Compiled, compile_template
from tocsin_notify.templates.variables import values_of

_BLANK: Final = "it says nothing"
_WEIGHT: Final = 5
"""Of a part without tags."""


@dataclass(frozen=True, slots=True)
class Source:
    """A template as it is kept. `language` empty: for users of any language. A part that is missing is the default text's."""

    name: str
    kind: Kind
    language: str
    parts: Wording

    @property
    def size(self) -> int:
        """In bytes."""
        return sum(len(text.encode()) for text in self.parts.values())


@dataclass(frozen=True, slots=True)
class Template:
    """One that was read. `broken`: parts that could not be."""

    name: str
    parts: Mapping[Part, Compiled]
    broken: Mapping[Part, BadTemplate]

    @property
    def weight(self) -> int:
        """See `TenantTemplates`."""
        return sum(_WEIGHT + part.tags for part in self.parts.values())

    @classmethod
    def of(cls, source: Source) -> "Template":
        """Read what is kept. Parts that an older or a newer version took, and this one does not, are broken."""
        parts: dict[Part, Compiled] = {}
        broken: dict[Part, BadTemplate] = {}
        for part, text in source.parts.items():
            try:
                parts[part] = compile_template(text, html=part is Part.HTML)
            except BadTemplate as error:
                broken[part] = error
        return cls(source.name, parts, broken)

    def word(self, delivery: Delivery, wanted: Iterable[Part]) -> tuple[Wording, Mapping[Part, BadTemplate]]:
        """The texts of these parts; and why some have none. Raises nothing."""
        wording: dict[Part, str] = {}
        faults: dict[Part, BadTemplate] = {}
        for part in wanted:
            if part in self.broken:
                faults[part] = self.broken[part]
            elif part in self.parts:
                try:
                    text = self.parts[part].render(values_of(delivery, part))
                except BadTemplate as error:
                    faults[part] = error
                    continue
                if text:
                    wording[part] = text
                else:
                    faults[part] = BadTemplate(_BLANK)
        return wording, faults


class TenantTemplates:
    """All of a tenant."""

    def __init__(self, sources: Sequence[Source]) -> None:
        """Takes some milliseconds for each long template."""
        self._templates = {(each.kind, each.language): Template.of(each) for each in sources}
        self.weight: Final = sum(each.weight for each in self._templates.values())
        """The weight in memory: about 700 bytes each."""

    def find(self, kind: Kind, language: str) -> Template | None:
        """The template that applies: one of the language before one of any language."""
        return self._templates.get((kind, language)) or self._templates.get((kind, ""))
