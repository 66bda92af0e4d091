"""Words that rows keep."""

from enum import StrEnum
from typing import Self


class Word(StrEnum):
    """An enum whose words are kept in rows.

    A word that only a newer version knows is there after a way back to this one. It is read as itself, is equal to no member and in
    no set of them: its row is shown, what this version does not understand is not done, and no list, claim or batch fails.
    """

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        if not isinstance(value, str):
            return None
        word = str.__new__(cls, value)
        word._name_ = word._value_ = value
        return word
