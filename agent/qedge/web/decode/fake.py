"""A decode service that stands in for the real one in tests: it decodes nothing, and commits what comes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from qedge.base.errors import QedgeError


class FakeLink:
    """A `DecodeLink` that gives every message back; `broken` ends it with an error."""

    def __init__(self) -> None:
        self._waiting: asyncio.Queue[bytes | str | QedgeError | None] = asyncio.Queue()
        self.taken: list[bytes | str] = []

    async def open(self, message: str) -> str:
        """Answer with what was asked; an empty message is refused."""
        if not message:
            raise QedgeError("decode.bad_open", "There is nothing in the message.")
        return message

    def take(self, message: bytes | str) -> None:
        """Give a message back; text ends the stream."""
        self.taken.append(message)
        self._waiting.put_nowait(message)
        if isinstance(message, str):
            self._waiting.put_nowait(None)

    async def next(self) -> bytes | str | None:
        """Return what was given back."""
        message = await self._waiting.get()
        if isinstance(message, QedgeError):
            raise message
        return message

    def broken(self, error: QedgeError) -> None:
        """End the stream with an error."""
        self._waiting.put_nowait(error)


class FakeDecoder:
    """Opens fake streams, at most `limit` at a time; `links` are all that were opened."""

    def __init__(self) -> None:
        self.limit = 8
        self.open = 0
        self.links: list[FakeLink] = []

    @asynccontextmanager
    async def stream(self) -> AsyncIterator[FakeLink]:
        """Take a place."""
        if self.open >= self.limit:
            raise QedgeError("decode.too_many_streams", "No more streams may be open.")
        self.open += 1
        self.links.append(FakeLink())
        try:
            yield self.links[-1]
        finally:
            self.open -= 1
