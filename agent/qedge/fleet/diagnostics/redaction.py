"""Takes out of text what may be secret. Pure.

Two ways together: values that are known to be secret (from files that the configuration names) go wherever they stand,
also in Base64 and hex; and what looks like a key goes wherever it looks so. What helps to find a fault, such
as key ids, hashes and UUIDs, is at most 64 characters of hex.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable
from typing import Final

MARK: Final = "[redacted]"
LEAST_SECRET_BYTES: Final = 4
"""Shorter values would be found everywhere."""

_PEM: Final = re.compile(
    r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|\Z)", re.DOTALL
)
_INVITATION: Final = re.compile(r"\bqedge[0-9]?:[A-Za-z0-9_+/=.-]{16,}")
_URL_PASSWORD: Final = re.compile(r"(?P<user>[a-z][a-z0-9+.-]*://[^\s/:@]*):[^\s/\"']+@", re.IGNORECASE)
_BEARER: Final = re.compile(r"\b(Bearer|Basic)\s+[A-Za-z0-9._~+/=-]{8,}", re.IGNORECASE)
_NAMED: Final = re.compile(
    r"""(?isx)
    (?P<name>["']?[a-z0-9_.-]*(?:password|passwd|passphrase|secret|token|private|seed|credential|authorization|cookie|(?:api|access)_?key)
    [a-z0-9_.-]*["']?\s*[:=]\s*)
    (?P<value>\"{3}.*?(?:\"{3}|\Z)|'{3}.*?(?:'{3}|\Z)|"(?:[^"\\\n]|\\.)*"|'[^'\n]*'
        |\[(?:"(?:[^"\\\n]|\\.)*"|'[^'\n]*'|[^\]"'])*\]|\{(?:"(?:[^"\\\n]|\\.)*"|'[^'\n]*'|[^}"'])*\}|[^\s,;}\])]+)
    """
)
_SIGNED_URL: Final = re.compile(r"(?P<name>[?&][^=&\s]*(?:sig|signature|key|code)=)[^&\s\"']+", re.IGNORECASE)
_FILE_NAME: Final = re.compile(r"""(?i)[a-z0-9-]*_(?:file|dir|path)["']?\s*[:=]\s*\Z""")
_LONG: Final = re.compile(r"(?<![A-Za-z0-9+/_-])[A-Za-z0-9+/_-]{43,}={0,2}(?![A-Za-z0-9+/_=-])")
_PLAIN_WORDS: Final = re.compile(r"[0-9a-f]{64}|[a-z0-9]+([_/-][a-z0-9]+)+|[a-z_/-]+")
"""SHA-256 in hex; names in small letters, such as those of events, metrics and topics; paths."""


class Redactor:
    """Redacts text and counts what it took out."""

    def __init__(self, secrets: Iterable[bytes] = ()) -> None:
        forms: set[str] = set()
        for secret in secrets:
            if len(secret) >= LEAST_SECRET_BYTES:
                forms |= _forms(secret)
        self._known = [re.escape(form) for form in sorted(forms, key=len, reverse=True)]
        self._pattern = re.compile("|".join(self._known)) if self._known else None
        self.count = 0

    def redact(self, text: str) -> str:
        """Return `text` without what is or may be secret."""
        if self._pattern is not None:
            text = self._pattern.sub(self._marked, text)
        for pattern in (_PEM, _INVITATION):
            text = pattern.sub(self._marked, text)
        text = _URL_PASSWORD.sub(lambda found: self._marked(found, found["user"] + ":", "@"), text)
        text = _SIGNED_URL.sub(lambda found: self._marked(found, found["name"]), text)
        text = _BEARER.sub(lambda found: self._marked(found, found[1] + " "), text)
        text = _NAMED.sub(self._named, text)
        return _LONG.sub(lambda found: found[0] if _PLAIN_WORDS.fullmatch(found[0]) else self._marked(found), text)

    def _marked(self, _found: re.Match[str], before: str = "", after: str = "") -> str:
        self.count += 1
        return f"{before}{MARK}{after}"

    def _named(self, found: re.Match[str]) -> str:
        empty = found["value"] in ('""', "''", "[]", "null", "false", "true", "0")
        if empty or MARK in found["value"] or _FILE_NAME.search(found["name"]):
            return found[0]
        quote = found["value"][0] if found["value"][0] in "\"'" else ""
        return self._marked(found, found["name"] + quote, quote)


def _forms(secret: bytes) -> set[str]:
    """Return how a secret may be written."""
    forms = {secret.hex(), secret.hex().upper()}
    for shift in range(3):  # Base64 of a longer text in which the secret begins at any of three places
        padded = base64.b64encode(bytes(shift) + secret).decode()
        kept = padded[(0, 2, 3)[shift] :].rstrip("=")
        kept = kept[:-1] if (shift + len(secret)) % 3 else kept
        forms |= {kept, kept.replace("+", "-").replace("/", "_")}
    try:
        text = secret.decode()
    except UnicodeDecodeError:
        return {form for form in forms if len(form) >= LEAST_SECRET_BYTES}
    forms |= {text, repr(text)[1:-1], json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1]}
    return {form for form in forms if len(form) >= LEAST_SECRET_BYTES}
