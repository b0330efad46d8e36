"""How commands ask the daemon: one event loop and one client for the time of the question."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import argparse

    from qedge.client.node import NodeClient

T = TypeVar("T")


def ask(args: argparse.Namespace, question: Callable[[NodeClient], Awaitable[T]], *, timeout_s: float = 60.0) -> T:
    """Open a client for the daemon that `--socket` names (or the one found) and put the question."""
    from qedge.client.node import NodeClient

    async def put() -> T:
        async with NodeClient(args.socket, timeout_s=timeout_s) as node:
            return await question(node)

    return asyncio.run(put())


def print_json(value: object) -> None:
    """Print a struct as one line of JSON."""
    import msgspec

    print(msgspec.json.encode(value).decode(), flush=True)
