"""The page: its files, and the trade of a one-time link for a session."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from aiohttp import web

from qedge.base.errors import QedgeError
from qedge.web.access import Right
from qedge.web.answers import json_answer
from qedge.web.page.assets import Asset
from qedge.web.requests import body_of
from qedge.web.route import Route
from qedge.web.state import WebState, state_of
from qedge.web.tokens import PROOF_HEADER
from qedge.wire.http import PageLogin, PageSession
from qedge.wire.node import PageLink

ASSETS: Final[web.AppKey[Mapping[str, Asset]]] = web.AppKey("qedge.web.page")


async def index(request: web.Request) -> web.StreamResponse:
    """Give the shell of the page: no data of the node is in it."""
    return _asset(request, "index.html")


async def file(request: web.Request) -> web.StreamResponse:
    """Give one file of the page."""
    return _asset(request, request.match_info["file"])


async def link(request: web.Request) -> web.Response:
    """Make a link that opens the page once."""
    state = state_of(request)
    _check_page(state)
    if not state.address:
        raise QedgeError(
            "http.not_found", "This node has no TCP listener.", fix="Set http.enabled = true and restart the daemon."
        )
    url = f"{state.address}/#link={state.tokens.new_link()}"
    return json_answer(PageLink(url, state.config.page_link_s))


async def login(request: web.Request) -> web.Response:
    """Trade the token of a link for a session."""
    state = state_of(request)
    _check_page(state)
    session = state.tokens.redeem((await body_of(request, PageLogin)).token)
    if session is None:
        raise QedgeError(
            "access.no_session", "The link was used before or is too old.", fix="Run `qedge open` for a new one."
        )
    life_s = state.config.page_session_s
    answer = json_answer(PageSession(session.proof, life_s))
    answer.set_cookie(
        state.cookie_name, session.cookie, max_age=int(life_s), httponly=True, samesite="Strict", path="/v1/"
    )
    return answer


async def logout(request: web.Request) -> web.Response:
    """End the session."""
    state = state_of(request)
    state.tokens.forget(request.cookies.get(state.cookie_name, ""), request.headers.get(PROOF_HEADER, ""))
    answer = web.Response(status=204)
    answer.del_cookie(state.cookie_name, path="/v1/")
    return answer


def _asset(request: web.Request, name: str) -> web.StreamResponse:
    state = state_of(request)
    _check_page(state)
    asset: Asset | None = request.app[ASSETS].get(name)
    if asset is None:
        raise QedgeError("http.not_found", "The page has no such file.")
    headers = {"ETag": f'"{asset.etag}"', "Cache-Control": "no-cache"}
    if request.headers.get("If-None-Match") == headers["ETag"]:
        return web.Response(status=304, headers=headers)
    return web.Response(body=asset.body, content_type=asset.content_type, charset="utf-8", headers=headers)


def _check_page(state: WebState) -> None:
    if not state.config.page:
        raise QedgeError("http.not_found", "The page is switched off.", fix="Set http.page = true.")


ROUTES: Final = (
    Route("GET", "/", Right.PUBLIC, index, navigation=True),
    Route("GET", "/page/{file}", Right.PUBLIC, file),
    Route("POST", "/v1/page-session", Right.PUBLIC, login, body=PageLogin, answer=PageSession),
    Route("DELETE", "/v1/page-session", Right.PUBLIC, logout),
    Route("POST", "/v1/page-link", Right.ADMIN, link, answer=PageLink),
)
