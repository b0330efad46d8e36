"""A decode stream as a Python object: push rounds, iterate over what is committed.

async with node.decode(MemoryModel(distance=5), window=10, commit=5) as stream:
    await stream.push(rounds)
    await stream.close(last)
    async for commit in stream:
        ...
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Final

import aiohttp
import msgspec

from qedge.base.errors import QedgeError
from qedge.wire.decode import (
    Answer,
    DecodeClose,
    DecodeCommit,
    DecodeFailed,
    DecodeOpen,
    DecodeOpened,
    DecodeSummary,
    pack_bits,
    pack_rounds,
    read_commit,
)
from qedge.wire.problem import error_of

MAX_KEPT: Final = 65_536
"""Commits kept for a program that does not read them; then the node is not read either, and credit runs out."""
_ANSWER: Final = msgspec.json.Decoder(Answer)

Packed = bytes | bytearray | memoryview
Events = Packed | Sequence[Sequence[int]]
"""Rounds: packed, `opened.round_bytes` each, or as 0 and 1 for each detector."""


class DecodeStream:
    """One open stream. Everything raises the `QedgeError` with which the stream ended, where it did not end well.

    `opened` describes it, `committed` is for how many rounds commits have come.
    """

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, opened: DecodeOpened) -> None:
        self._socket = socket
        self._kept: asyncio.Queue[DecodeCommit | None] = asyncio.Queue(MAX_KEPT)
        self._moved = asyncio.Event()
        self._summary: DecodeSummary | None = None
        self._error: QedgeError | None = None
        self.opened = opened
        self.sent = 0
        self.committed = 0

    async def push(self, rounds: Events) -> None:
        """Send rounds, after waiting for credit where there is none left."""
        await self._send(rounds, closing=False)

    async def close(self, last: Events | None = None) -> None:
        """End the stream with its last round, the one that comes from the data qubits, or without one as it is."""
        if last is not None:
            await self._send(last, closing=True)
        else:
            await self._put(msgspec.json.encode(DecodeClose()).decode())

    async def summary(self) -> DecodeSummary:
        """Wait for the end of the stream and return what the node says of it."""
        while self._summary is None:
            await self._wait()
        return self._summary

    async def __aiter__(self) -> AsyncIterator[DecodeCommit]:
        """Give commits as they come, until the stream has ended."""
        while (commit := await self._kept.get()) is not None:
            yield commit
        self._kept.put_nowait(None)
        if self._error is not None:
            raise self._error

    async def read(self) -> None:
        """Take what the node says until the stream ends; `NodeClient.decode` runs this beside the program."""
        try:
            while self._summary is None:
                message = await self._socket.receive()
                if message.type is aiohttp.WSMsgType.BINARY:
                    commit = read_commit(message.data)
                    self.committed = commit.committed
                    await self._kept.put(commit)
                    self._moved.set()
                else:
                    answer = _answer_in(message)
                    if not isinstance(answer, DecodeSummary):
                        raise QedgeError("bus.bad_message", "The node said something that was not due.")
                    self._summary = answer
        except QedgeError as error:
            error.details.setdefault("committed", self.committed)
            self._error = error
        finally:
            self._moved.set()
            await self._kept.put(None)

    async def _send(self, rounds: Events, *, closing: bool) -> None:
        opened = self.opened
        packed = rounds if isinstance(rounds, Packed) else pack_bits(rounds, opened.round_bytes)
        message = pack_rounds(self.sent, bytes(packed), opened.round_bytes, closing=closing)
        number = len(packed) // opened.round_bytes
        if number > opened.credit:
            raise QedgeError(
                "decode.overrun", f"{number} rounds at once are more than the credit of {opened.credit}.", fix="Split."
            )
        while self.sent + number - self.committed > opened.credit:
            await self._wait()
        await self._put(message)
        self.sent += number

    async def _put(self, message: bytes | str) -> None:
        if self._error is not None:
            raise self._error
        try:
            await (self._socket.send_bytes(message) if isinstance(message, bytes) else self._socket.send_str(message))
        except (ConnectionError, aiohttp.ClientError):
            # why the node ended the stream is on its way, or was read already
            while self._error is None and self._summary is None:
                await self._wait()
            raise self._error or QedgeError("decode.closed", "The stream has ended.") from None

    async def _wait(self) -> None:
        """Wait until something came; raises where nothing more can come."""
        if self._error is not None:
            raise self._error
        if self._summary is not None:
            raise QedgeError("decode.closed", "The stream has ended.", fix="Open another one.")
        self._moved.clear()
        await self._moved.wait()
        if self._error is not None:
            raise self._error


async def open_stream(socket: aiohttp.ClientWebSocketResponse, wanted: DecodeOpen) -> DecodeStream:
    """Open a stream over a connection."""
    await socket.send_str(msgspec.json.encode(wanted).decode())
    answer = _answer_in(await socket.receive())
    if not isinstance(answer, DecodeOpened):
        raise QedgeError("bus.bad_message", "The node answered the opening with something else.")
    return DecodeStream(socket, answer)


def _answer_in(message: aiohttp.WSMessage) -> DecodeOpened | DecodeSummary:
    if message.type is not aiohttp.WSMsgType.TEXT:
        raise QedgeError(
            "decode.broken",
            "The connection ended before the stream did.",
            fix="Open a new stream where the node is up.",
        )
    try:
        answer: DecodeOpened | DecodeSummary | DecodeFailed = _ANSWER.decode(message.data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise QedgeError("bus.bad_message", f"The node's answer cannot be read: {error}.") from error
    if isinstance(answer, DecodeFailed):
        raise error_of(answer.problem)
    return answer
