"""What a row of the table of errors says: whose fault it is, and how HTTP and the command line tell it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum


class Side(StrEnum):
    """Who has to change something: this node (`local`) or whoever sent the request (`remote`)."""

    LOCAL = "local"
    REMOTE = "remote"


class Exit(IntEnum):
    """Exit codes of the command line, from BSD sysexits."""

    OK = 0
    FAILED = 1
    USAGE = 64
    DATA = 65
    NO_INPUT = 66
    UNAVAILABLE = 69
    SOFTWARE = 70
    OS = 71
    CANT_CREATE = 73
    IO = 74
    TEMPORARY = 75
    PROTOCOL = 76
    NO_PERMISSION = 77
    CONFIG = 78


@dataclass(frozen=True, slots=True)
class ErrorSpec:
    """What a code means: `http_status` and `exit_code` it maps to, the side at fault and a sentence for the manual."""

    http_status: int
    exit_code: Exit
    side: Side
    meaning: str


def remote(http_status: int, meaning: str, exit_code: Exit = Exit.DATA) -> ErrorSpec:
    """Write the row of an error that whoever sent the request has to mend."""
    return ErrorSpec(http_status, exit_code, Side.REMOTE, meaning)


def local(http_status: int, meaning: str, exit_code: Exit = Exit.UNAVAILABLE) -> ErrorSpec:
    """Write the row of an error that this node has to mend."""
    return ErrorSpec(http_status, exit_code, Side.LOCAL, meaning)
