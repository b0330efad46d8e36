"""The nouns of key delivery: applications, requests as they were checked, and refusals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

BAD_SIZE: Final = "size shall be a multiple of 8"
UNSUPPORTED: Final = "not all extension_mandatory parameters are supported"
UNMET: Final = "not all extension_mandatory request options could be met"
NOT_FOUND: Final = "one or more keys specified are not found on KME"
"""These four sentences are the standard's own, word by word (ETSI GS QKD 014 V1.1.1, clause 6.5)."""

ANY_SLAVE: Final = "*"


class RefusalError(Exception):
    """An answer other than 200: its HTTP status, the `message` and the `details` of the standard's Error body.

    `retry_s` is a hint for 503. No key, and nothing a caller sent unchecked, goes into a refusal.
    """

    def __init__(
        self, status: int, message: str, details: tuple[dict[str, str], ...] = (), *, retry_s: int = 0
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.details = details
        self.retry_s = retry_s


def bad(message: str, **details: str) -> RefusalError:
    """Make a refusal for a request that is wrong."""
    return RefusalError(400, message, ({**details},) if details else ())


@dataclass(frozen=True, slots=True)
class Sae:
    """One application. `name` is ours, `id` what its certificate and the interface say, `node` where it is attached.

    `permit` are names of those it may share keys with, or `*`; limits are 0 where the node's own count.
    """

    name: str
    id: str
    node: str
    permit: tuple[str, ...] = ()
    max_keys_per_request: int = 0
    max_keys_per_s: float = 0.0
    configured: bool = False


@dataclass(frozen=True, slots=True)
class Extension:
    """One parameter of `extension_mandatory` or `extension_optional`: a name and any JSON value."""

    name: str
    value: object


@dataclass(frozen=True, slots=True)
class KeyRequest:
    """A Key request whose form is right; 0 stands for what the caller left to us."""

    number: int = 1
    size: int = 0
    additional: tuple[str, ...] = ()
    mandatory: tuple[Extension, ...] = ()
    optional: tuple[Extension, ...] = ()
