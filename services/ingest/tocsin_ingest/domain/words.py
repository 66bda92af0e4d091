"""Enums whose words are stored in rows."""

from enum import StrEnum
from typing import Self


class Word(StrEnum):
    """An enum whose words are kept in rows.

    A row may hold a word of a newer version, after a rollback to this one. It is read as itself and equals no member. Its row is
    shown, this version does nothing with it, and no list, claim or batch fails.
    """

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        if not isinstance(value, str):
            return None
        word = str.__new__(cls, value)
        word._name_ = word._value_ = value
        return word
