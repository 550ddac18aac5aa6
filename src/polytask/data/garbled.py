"""Detects damaged texts: decoded with a wrong encoding, or with lost characters."""

from __future__ import annotations

import re

LOST = (
    "{count} texts hold U+FFFD, which replaces characters that were lost when the file was written or converted, the "
    "first at {place}; create the file again from its source"
)
MISREAD = (
    "{count} texts look like UTF-8 that was read in another encoding (such as \u00c3\u00a9 for \u00e9), the first at "
    "{place}; name the right `encoding`, or repair the file"
)
# How bytes 0x80 to 0xbf look in cp1252 or Latin-1. Where a single such pair is enough, quotes that follow a capital in
# real texts are excluded.
_AFTER = (
    "[\u0080-\u00bf\u20ac\u201a\u0192\u201e\u2026\u2020\u2021\u02c6\u2030\u0160\u2039\u0152\u017d\u2018\u2019\u201c"
    "\u201d\u2022\u2013\u2014\u02dc\u2122\u0161\u203a\u0153\u017e\u0178]"
)
EXCEL = (
    "{count} texts hold _x000D_, which Excel writes for the end of a line, the first at {place}; write a space instead"
)
_MISREAD = re.compile(
    "\u00c3[\u0080-\u009f\u00a1-\u00aa\u00ac-\u00b6\u00b8-\u00ba\u00bc-\u00bf]"  # Latin letters with accents
    "|\u00c2[\u00a3\u00a9\u00ae\u00b0\u00b1]"
    "|\u00e2\u20ac|\u00e2\u0080"  # quotes and dashes
    "|\u00f0\u0178|\u00f0\u009f"  # emoji
    "|\u00ef\u00bf\u00bd|\u00ef\u00bb\u00bf"  # U+FFFD, and the byte order mark
    f"|(?:[\u00d0\u00d1]{_AFTER}){{2}}"  # Cyrillic
    f"|(?:[\u00e3-\u00e9]{_AFTER}{{2}}){{2}}"  # Chinese and Japanese
)


def damage_in(text: str) -> str | None:
    """Return the note on a text that seems to be damaged; None for other texts.

    >>> damage_in("caf\u00c3\u00a9") == MISREAD, damage_in("caf\u00e9") is None
    (True, True)
    """
    if "_x000D_" in text:
        return EXCEL
    if text.isascii():
        return None
    if "\ufffd" in text:
        return LOST
    return MISREAD if _MISREAD.search(text) else None
