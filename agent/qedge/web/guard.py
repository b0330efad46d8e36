"""What stands before every handler: site and access checks, deadlines, errors as problems, and the metrics."""

from __future__ import annotations

import asyncio
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from qedge.base.clock import Clock
from qedge.base.errors import QedgeError
from qedge.base.log import get_logger
from qedge.web.access import Door, Right, check_right, check_site, granted
from qedge.web.answers import problem_answer, set_headers
from qedge.web.requests import caller_of
from qedge.web.route import Route
from qedge.web.routes import find_route
from qedge.web.state import state_of

_LOG: Final = get_logger("web")
_SAFE: Final = frozenset({"GET", "HEAD"})
_DENIAL_LOG_NS: Final = 10_000_000_000


class Guard:
    """The middleware of both listeners."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._denial_logged_ns = -_DENIAL_LOG_NS

    def middleware(self) -> Middleware:
        """Return the function for aiohttp."""

        @web.middleware
        async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
            started_ns = self._clock.now_ns()
            route = find_route(request)
            status = 499  # the caller went away, or the daemon stops
            try:
                answer = await self._answer(request, handler, route)
                status = answer.status
            finally:
                self._count(request, route, status, started_ns)
            return answer

        return guard

    async def _answer(self, request: web.Request, handler: Handler, route: Route | None) -> web.StreamResponse:
        try:
            self._check(request, route)
            if route is not None and route.endless:
                return await handler(request)
            async with asyncio.timeout(state_of(request).config.request_limit_s):
                answer = await handler(request)
        except QedgeError as error:
            answer = problem_answer(error)
        except web.HTTPException as error:
            answer = _http_problem(error)
        except TimeoutError:
            late = "What it asked for may have been done, or still be: look before you ask again, or use a client key."
            answer = problem_answer(QedgeError("http.timeout", "The request took longer than its limit.", fix=late))
        except (ConnectionError, asyncio.CancelledError):
            raise
        except Exception as error:  # noqa: BLE001 - a fault in one handler must not show its inside or end the connection
            _LOG.error("http.failed", route=_pattern(route), error=repr(error))
            answer = problem_answer(QedgeError("internal.unexpected", "A fault of the program; the log has more."))
        if not answer.prepared:
            set_headers(answer.headers)
        return answer

    def _check(self, request: web.Request, route: Route | None) -> None:
        state = state_of(request)
        try:
            if state.door is Door.TCP:
                check_site(
                    request.headers,
                    state.rules,
                    safe=request.method in _SAFE,
                    navigation=route is not None and route.navigation,
                )
            caller = caller_of(request)
            if route is not None:
                check_right(caller, route.right, state.rules)
            elif not granted(caller, state.rules):
                check_right(caller, Right.PUBLIC, state.rules)
        except QedgeError as error:
            state.metrics.add("qedge_http_refused_total", (error.code,))
            self._log_denial(request, route, error)
            raise

    def _log_denial(self, request: web.Request, route: Route | None, error: QedgeError) -> None:
        # One line in ten seconds: whoever is refused may ask as often as they like.
        now_ns = self._clock.now_ns()
        if error.code != "access.no_session" and now_ns - self._denial_logged_ns >= _DENIAL_LOG_NS:
            self._denial_logged_ns = now_ns
            uid = caller_of(request).uid
            _LOG.warning("access.denied", uid=uid, route=_pattern(route), reason=error.message)

    def _count(self, request: web.Request, route: Route | None, status: int, started_ns: int) -> None:
        metrics, pattern = state_of(request).metrics, _pattern(route)
        metrics.add("qedge_http_requests_total", (pattern, str(status)))
        if route is not None and not route.endless:
            metrics.observe("qedge_http_request_seconds", (self._clock.now_ns() - started_ns) / 1e9, (pattern,))


def _pattern(route: Route | None) -> str:
    return "other" if route is None else f"{route.method} {route.pattern}"


def _http_problem(error: web.HTTPException) -> web.Response:
    code = {404: "http.not_found", 405: "http.method_not_allowed", 413: "http.too_large"}.get(
        error.status, "http.bad_request"
    )
    answer = problem_answer(QedgeError(code, f"{error.reason}."), error.status)
    if "Allow" in error.headers:
        answer.headers["Allow"] = error.headers["Allow"]
    return answer
