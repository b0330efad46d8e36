"""An error as it crosses MQTT, HTTP (RFC 9457 `application/problem+json`) and the command line."""

from __future__ import annotations

from typing import Final

import msgspec

from qedge.base.errors import ERROR_CODES, Detail, QedgeError

TYPE_PREFIX: Final = "urn:qedge:error:"


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """`type` is `urn:qedge:error:` and the code; `title` the sentence; `fix` what to do; `details` small facts."""

    type: str
    title: str
    status: int
    fix: str = ""
    details: dict[str, Detail] = {}

    @property
    def code(self) -> str:
        """Return the stable code, for instance `job.queue_full`."""
        return self.type.removeprefix(TYPE_PREFIX)


def problem_of(error: QedgeError) -> Problem:
    """Write an error down for the wire."""
    return Problem(
        type=TYPE_PREFIX + error.code,
        title=error.message,
        status=error.spec.http_status,
        fix=error.fix,
        details=dict(error.details),
    )


def error_of(problem: Problem) -> QedgeError:
    """Turn a problem from the wire back into the error; a code that is not known here becomes `internal.unexpected`."""
    if problem.code in ERROR_CODES:
        error = QedgeError(problem.code, problem.title, fix=problem.fix)
        error.details = dict(problem.details)
        return error
    return QedgeError("internal.unexpected", problem.title, fix=problem.fix, remote_code=problem.code)
