"""Responses: JSON, problems (RFC 9457), and the headers that every response carries."""

from __future__ import annotations

import math
from collections.abc import MutableMapping
from typing import Final

import msgspec
from aiohttp import web

from qedge.base.errors import QedgeError
from qedge.wire.problem import problem_of

PROBLEM_TYPE: Final = "application/problem+json"

CONTENT_SECURITY_POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)

_SECURITY_HEADERS: Final = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Server": "qedge",
}
_RETRY_LATER: Final = {429, 503, 507}


def set_headers(headers: MutableMapping[str, str]) -> None:
    """Add the headers of every response; what a handler has set stays."""
    for name, value in _SECURITY_HEADERS.items():
        headers.setdefault(name, value)
    headers.setdefault("Cache-Control", "no-store")


def json_answer(value: object, status: int = 200) -> web.Response:
    """Answer with a struct."""
    return web.Response(body=msgspec.json.encode(value), status=status, content_type="application/json")


def problem_answer(error: QedgeError, status: int = 0) -> web.Response:
    """Answer with an error; `status` overrides the one that belongs to its code."""
    problem = problem_of(error)
    answer = web.Response(body=msgspec.json.encode(problem), status=status or problem.status, content_type=PROBLEM_TYPE)
    if answer.status in _RETRY_LATER:
        after_s = error.details.get("retry_after_s")
        answer.headers["Retry-After"] = str(max(1, math.ceil(after_s))) if isinstance(after_s, (int, float)) else "1"
    return answer
