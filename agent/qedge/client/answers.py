"""Reads what a node answers: values, and errors as they were raised there."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from qedge.base.errors import QedgeError
from qedge.wire.problem import Problem, error_of

T = TypeVar("T")


def decode(data: bytes, kind: type[T]) -> T:
    """Read the body of an answer; raises `bus.bad_message`."""
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise QedgeError(
            "bus.bad_message", f"The node's answer cannot be read: {error}.", fix="Are client and node of one version?"
        ) from error


def error_in(status: int, body: bytes) -> QedgeError:
    """Return the error that an answer carries."""
    try:
        return error_of(msgspec.json.decode(body, type=Problem))
    except (msgspec.DecodeError, UnicodeDecodeError):
        code = "http.busy" if status == 503 else "internal.unexpected"
        return QedgeError(code, f"The node answered with HTTP status {status}.")


def timed_out(timeout_s: float) -> QedgeError:
    """Return the error of a node that did not answer in time."""
    return QedgeError(
        "client.timeout", f"The node did not answer within {timeout_s:g} s.", fix="Look at `qedge status` and its log."
    )
