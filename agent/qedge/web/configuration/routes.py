"""Routes of the fleet's configuration; all that change it are for the operator, at the unix socket."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aiohttp import web

from qedge.web.access import Right
from qedge.web.answers import json_answer
from qedge.web.requests import body_of
from qedge.web.route import Route
from qedge.wire.configuration import (
    ConfigurationApply,
    ConfigurationRollback,
    ConfigurationStage,
    ConfigurationView,
    SettingList,
    StagedConfiguration,
)

if TYPE_CHECKING:
    from qedge.web.configuration.ports import ConfigurationNode, ConfigurationPort

NODE: Final[web.AppKey[ConfigurationNode]] = web.AppKey("qedge.web.configuration")


async def show(request: web.Request) -> web.Response:
    """Describe what the fleet's configuration is and what becomes of a change."""
    return json_answer(_configuration(request).view())


async def settings(request: web.Request) -> web.Response:
    """List all effective settings, and where each was set."""
    return json_answer(await _configuration(request).settings())


async def stage(request: web.Request) -> web.Response:
    """Check a layer and keep it."""
    return json_answer(await _configuration(request).stage(await body_of(request, ConfigurationStage)))


async def apply(request: web.Request) -> web.Response:
    """Begin to put the staged layer into force; the daemon may restart for it."""
    port = _configuration(request)
    await port.begin(await body_of(request, ConfigurationApply))
    return json_answer(port.view(), status=202)


async def rollback(request: web.Request) -> web.Response:
    """Begin to put back the layer before."""
    port = _configuration(request)
    await port.begin_rollback(await body_of(request, ConfigurationRollback))
    return json_answer(port.view(), status=202)


def _configuration(request: web.Request) -> ConfigurationPort:
    return request.app[NODE].configuration


ROUTES: Final = (
    Route("GET", "/v1/configuration", Right.VIEW, show, answer=ConfigurationView),
    Route("GET", "/v1/configuration/settings", Right.ADMIN, settings, answer=SettingList),
    Route("PUT", "/v1/configuration/staged", Right.ADMIN, stage, body=ConfigurationStage, answer=StagedConfiguration),
    Route(
        "POST",
        "/v1/configuration/apply",
        Right.ADMIN,
        apply,
        body=ConfigurationApply,
        answer=ConfigurationView,
        status=202,
    ),
    Route(
        "POST",
        "/v1/configuration/rollback",
        Right.ADMIN,
        rollback,
        body=ConfigurationRollback,
        answer=ConfigurationView,
        status=202,
    ),
)
