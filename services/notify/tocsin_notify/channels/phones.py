"""Telephone numbers in their one form (ITU-T E.164)."""

from typing import Final

import phonenumbers
from phonenumbers import NumberParseException, PhoneNumberFormat, PhoneNumberType, ValidationResult

from tocsin_notify.channels.base import BadAddress

_COSTLY: Final = frozenset({PhoneNumberType.PREMIUM_RATE, PhoneNumberType.SHARED_COST, PhoneNumberType.UAN})


class BadNumber(BadAddress):
    """The number cannot be reached."""


def read_number(text: str) -> str:
    """The number with its plus sign and nothing but digits behind. Raises BadNumber.

    Only a number of impossible length is refused: lists of the ranges in use are outdated when they are installed, and
    a code sent to the number proves more. Numbers that cost more than a usual call are refused: their owners would earn
    money with each code.
    """
    try:
        number = phonenumbers.parse(text, None)
    except NumberParseException as error:
        raise BadNumber("must be a number in international form, such as +4915112345678") from error
    possible = phonenumbers.is_possible_number_with_reason(number)
    if possible != ValidationResult.IS_POSSIBLE or number.extension:
        raise BadNumber("must have as many digits as numbers of its country have, and no extension")
    if phonenumbers.number_type(number) in _COSTLY:
        raise BadNumber("must not be a number of premium rate")
    return phonenumbers.format_number(number, PhoneNumberFormat.E164)


def country_of(number: str) -> str:
    """The country of a number that was checked, as ISO 3166-1 alpha-2; empty for one of no country."""
    return phonenumbers.region_code_for_number(phonenumbers.parse(number, None)) or ""


def check_number(address: str, allow_private: bool) -> str:
    """For channels to phones. Raises BadNumber."""
    return read_number(address)
