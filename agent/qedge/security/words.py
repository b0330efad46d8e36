"""Words from elsewhere, made harmless before they are kept, shown or sent on. Pure."""

from __future__ import annotations

from typing import Final

_STRANGE: Final = "\ufffd"


def plain(text: str, limit: int) -> str:
    """Cut a text; what does not print, line ends and lone surrogates included, becomes U+FFFD."""
    text = text[:limit]
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else _STRANGE for each in text)
