"""A mail as HTML, of what a template made: cleaned, and with the link by which the person answers, and how to reply, outside of it.

What the template leaves open, hides or comments out ends where the template ends: the cleaning closes each element.
"""

from html import escape
from typing import Final

import nh3

from tocsin_notify.channels.base import Delivery
from tocsin_notify.channels.text import reply_hint
from tocsin_notify.domain.template import Part

_TAGS: Final = {
    *(
        "a",
        "b",
        "blockquote",
        "br",
        "code",
        "div",
        "em",
        "h1",
        "h2",
        "h3",
        "hr",
        "i",
        "li",
        "ol",
        "p",
        "pre",
        "small",
        "span",
    ),
    *("strong", "sub", "sup", "table", "tbody", "td", "tfoot", "th", "thead", "tr", "u", "ul"),
}
_ATTRIBUTES: Final = {
    "*": {"style", "align"},
    "a": {"href", "title"},
    "td": {"colspan", "rowspan"},
    "th": {"colspan", "rowspan"},
}
_STYLES: Final = {
    *(
        "background-color",
        "border",
        "border-collapse",
        "border-radius",
        "color",
        "font-family",
        "font-size",
        "font-style",
    ),
    *("font-weight", "line-height", "margin", "padding", "text-align", "text-decoration", "width"),
}
_SCHEMES: Final = {"http", "https", "mailto", "tel"}


def mail_html(delivery: Delivery) -> str:
    """The whole document; empty: the mail is text alone."""
    worded = delivery.worded(Part.HTML)
    if not worded:
        return ""
    clean = nh3.clean(
        worded,
        tags=_TAGS,
        attributes=_ATTRIBUTES,
        filter_style_properties=_STYLES,
        url_schemes=_SCHEMES,
        link_rel="noreferrer",
    )
    return (
        f'<!doctype html><html lang="{delivery.language}"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"></head><body>{clean}{_answer(delivery)}</body></html>'
    )


def _answer(delivery: Delivery) -> str:
    words = delivery.words
    link = f'<p><a href="{escape(delivery.link)}">{escape(words.button_answer)}</a></p>' if delivery.link else ""
    hint = reply_hint(delivery)
    return f"{link}<p>{escape(hint)}</p>" if hint else link
