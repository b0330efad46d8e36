"""What the HTTP interface needs of decoding; `engine.decoding.service` does the work."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Protocol


class DecodeLink(Protocol):
    """One decode stream. Messages are those of `qedge.wire.decode`, as they stand on the WebSocket."""

    async def open(self, message: str) -> str:
        """Hand on the first message and return the answer; raises `decode.*` and what a worker raises."""
        ...

    def take(self, message: bytes | str) -> None:
        """Hand on a message of the control system; raises `decode.*`."""
        ...

    async def next(self) -> bytes | str | None:
        """Return the next message for the control system, None after the last; raises why the stream broke."""
        ...


class DecodeNode(Protocol):
    """The node, as far as it decodes."""

    def decode(self) -> AbstractAsyncContextManager[DecodeLink]:
        """Take a place for one decode stream; entering raises `decode.too_many_streams`."""
        ...
