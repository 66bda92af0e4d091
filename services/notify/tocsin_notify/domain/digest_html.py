"""A digest as an HTML mail.

Mail programs drop most of HTML: everything is tables with inline styles, no width is fixed, and nothing is loaded from anywhere.
The one style sheet is for programs that show mails in dark colours; those that drop it show the light ones.
"""

import itertools
from html import escape
from typing import Final

from tocsin_notify.domain.digest_content import (
    Content,
    Line,
    Section,
    figures,
    heading,
    headline,
    notes,
    nothing,
    period,
    remarks,
    sections,
    subject,
)
from tocsin_notify.domain.digest_words import DigestWords

_FONT: Final = "font-family:-apple-system,'Segoe UI',Roboto,Helvetica,Arial,sans-serif"
_DARK: Final = (
    ":root{color-scheme:light dark;supported-color-schemes:light dark}"
    "@media (prefers-color-scheme:dark){"
    ".page{background:#14161a !important}.card{background:#1e2127 !important}.tile{background:#292d35 !important}"
    ".text{color:#eceef1 !important}.soft{color:#a9b0bb !important}.alarm{color:#ff9b8f !important}"
    ".rule{border-color:#383d47 !important}}"
)
_TABLE: Final = '<table role="presentation" width="100%" cellpadding="0" cellspacing="0" border="0"'
_WRAP: Final = "overflow-wrap:anywhere;word-break:break-word"


def html(content: Content, words: DigestWords, link: str = "") -> str:
    """The whole document. `link`: where its user ends it; empty: by a call."""
    parts = [_heading(content, words)]
    if content.worth_telling:
        parts += [_tiles(content, words), *(_paragraph(each) for each in remarks(content, words))]
        parts += (_section(each) for each in sections(content, words))
    else:
        parts.append(_paragraph(nothing(content, words)))
    return (
        '<!DOCTYPE html><html lang="'
        f'{words.language}"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta name="color-scheme" content="light dark"><meta name="supported-color-schemes" content="light dark">'
        f"<title>{escape(subject(content, words))}</title><style>{_DARK}</style></head>"
        f'<body class="page" style="margin:0;padding:0;background:#f1f2f4">{_preview(content, words)}'
        f'{_TABLE} class="page" style="background:#f1f2f4"><tr><td align="center" style="padding:16px 10px">'
        f'{_TABLE} class="card" style="max-width:560px;background:#ffffff;border-radius:10px;{_FONT}">'
        f'<tr><td style="padding:20px 18px">{"".join(parts)}{_footer(content, words, link)}</td></tr></table>'
        "</td></tr></table></body></html>"
    )


def _preview(content: Content, words: DigestWords) -> str:
    """What lists of mails show beside the subject."""
    return (
        '<div style="display:none;max-height:0;overflow:hidden;mso-hide:all">'
        f"{escape(headline(content, words))}, {escape(period(content, words))}</div>"
    )


def _heading(content: Content, words: DigestWords) -> str:
    kind = escape(heading(content, words))
    return (
        f'<h1 class="text" style="margin:0;font-size:20px;line-height:26px;font-weight:600;color:#1b1e24">{kind}</h1>'
        f'<p class="soft" style="margin:2px 0 14px;font-size:14px;line-height:20px;color:#5b6470">'
        f"{escape(period(content, words))}</p>"
    )


def _tiles(content: Content, words: DigestWords) -> str:
    """Two beside each other, so that they are wide enough on a phone."""
    sides = itertools.cycle(("0 4px 8px 0", "0 0 8px 4px"))
    cells = [_tile(name, number, side) for (name, number), side in zip(figures(content, words), sides, strict=False)]
    rows = ("".join(cells[place : place + 2]) for place in range(0, len(cells), 2))
    return f'{_TABLE} style="margin:0 0 6px">' + "".join(f"<tr>{row}</tr>" for row in rows) + "</table>"


def _tile(name: str, number: str, padding: str) -> str:
    return (
        f'<td width="50%" style="padding:{padding}">{_TABLE} class="tile" style="background:#f1f2f4;border-radius:8px">'
        '<tr><td style="padding:10px 12px">'
        f'<div class="text" style="font-size:26px;line-height:30px;font-weight:600;color:#1b1e24">{escape(number)}</div>'
        f'<div class="soft" style="font-size:14px;line-height:18px;color:#5b6470">{escape(name)}</div>'
        "</td></tr></table></td>"
    )


def _paragraph(said: str) -> str:
    return f'<p class="text" style="margin:0 0 6px;font-size:15px;line-height:21px;color:#1b1e24">{escape(said)}</p>'


def _section(section: Section) -> str:
    lines = "".join(map(_item, section.lines))
    return (
        '<h2 class="text" style="margin:20px 0 4px;font-size:16px;line-height:22px;font-weight:600;color:#1b1e24">'
        f"{escape(section.heading)}</h2>{_TABLE}>{lines}</table>"
    )


def _item(line: Line) -> str:
    shade = 'class="alarm" style="color:#b3261e' if line.alarming else 'class="soft" style="color:#5b6470'
    return (
        '<tr><td class="rule" style="padding:8px 0;border-top:1px solid #e2e5e9">'
        f'<div class="text" style="font-size:15px;line-height:21px;color:#1b1e24;{_WRAP}">{escape(line.head)}</div>'
        f'<div {shade};font-size:14px;line-height:19px;{_WRAP}">{escape(line.detail)}</div></td></tr>'
    )


def _footer(content: Content, words: DigestWords, link: str) -> str:
    lines = [escape(each) for each in notes(content, words)]
    if link:
        style = "color:#5b6470;text-decoration:underline;line-height:44px"  # high enough for a thumb
        lines.append(f'<a class="soft" href="{escape(link)}" style="{style}">{escape(words.end_button)}</a>')
    else:
        lines[-1] += f" {escape(words.ends_by_call)}"
    said = "".join(
        f'<p class="soft" style="margin:14px 0 0;font-size:13px;line-height:18px;color:#5b6470">{each}</p>'
        for each in lines
    )
    return f'<div class="rule" style="margin-top:18px;border-top:1px solid #e2e5e9">{said}</div>'
