"""A running HTTP service over a fake node, for tests from outside."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from qedge.base.metrics import Metrics
from qedge.base.system_clock import SystemClock
from qedge.client.node import NodeClient
from qedge.web.config import WebConfig
from qedge.web.fake import FakeNode
from qedge.web.service import WebService


class Site:
    """A running service and what a test needs of it."""

    def __init__(self, service: WebService, node: FakeNode, metrics: Metrics) -> None:
        self.service = service
        self.node = node
        self.metrics = metrics

    @property
    def url(self) -> str:
        return self.service.address

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def client(self) -> NodeClient:
        return NodeClient(self.service.socket)


@asynccontextmanager
async def serving(
    tmp_path: Path, *, instant: bool = True, node: FakeNode | None = None, **settings: Any
) -> AsyncIterator[Site]:
    """Serve a fake node at `tmp_path / "qedge.sock"`; `settings` are those of `WebConfig`."""
    metrics = Metrics()
    node = FakeNode(SystemClock(), os.urandom, instant=instant) if node is None else node
    service = WebService(
        WebConfig(**settings),
        node,
        socket_path=tmp_path / "qedge.sock",
        clock=SystemClock(),
        metrics=metrics,
        random_bytes=os.urandom,
    )
    up = asyncio.Event()
    task = asyncio.create_task(service.run(up.set))
    try:
        waiting = asyncio.create_task(up.wait())
        await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            waiting.cancel()
            task.result()
        yield Site(service, node, metrics)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
