"""The languages that there are."""

from collections.abc import Mapping
from typing import Final

from tocsin_notify.domain.template import LANGUAGES
from tocsin_notify.texts import de, en
from tocsin_notify.texts.words import Words

CATALOGUE: Final[Mapping[str, Words]] = {"en": en.WORDS, "de": de.WORDS}


def words_of(language: str) -> Words:
    """Of a language; those of the first one for a language that only a newer version knows."""
    return CATALOGUE.get(language) or CATALOGUE[LANGUAGES[0]]
