"""What the handlers of one listener share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from aiohttp import web

from qedge.base.metrics import Metrics
from qedge.web.access import Door, Rules
from qedge.web.config import WebConfig
from qedge.web.tokens import COOKIE_PREFIX, PageTokens


@dataclass(slots=True)
class WebState:
    """One listener: `address` is `http://127.0.0.1:PORT` of the TCP listener (empty: there is none)."""

    door: Door
    config: WebConfig
    rules: Rules
    tokens: PageTokens
    metrics: Metrics
    address: str = ""

    @property
    def cookie_name(self) -> str:
        """Return the cookie's name; it carries the port because cookies themselves do not tell ports apart."""
        return COOKIE_PREFIX + self.address.rpartition(":")[2]


STATE: Final = web.AppKey("qedge.web.state", WebState)


def state_of(request: web.Request) -> WebState:
    """Return the state of the listener that took the request."""
    return request.app[STATE]
