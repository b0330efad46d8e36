"""Getting a bundle into the staging folder: by HTTP(S) with resumption, or from a path of the box. Bounded."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final

import aiohttp

from qedge.base.errors import QedgeError
from qedge.wire.update import SoftwareUpdate

_PIECE: Final = 256 * 1024
_TRIES: Final = 30
_FIRST_DELAY_S: Final = 1.0
_MAX_DELAY_S: Final = 30.0
_SILENCE_S: Final = 30.0
_MAX_REDIRECTS: Final = 5
_SPARE_BYTES: Final = 256 * 2**20
"""Left free beside the bundle: a full disk would stop the node from taking work."""

Watch = Callable[[float], None]
"""Called with the share of the bundle that is there."""


async def fetch(order: SoftwareUpdate, folder: Path, watch: Watch, *, first_delay_s: float = _FIRST_DELAY_S) -> Path:
    """Bring the ordered bundle into `folder` and return its path there; what is there already is not fetched again.

    A transfer that breaks off goes on where it was, also after a restart of the daemon. Raises `update.not_fetched`
    where the source does not give it, and `update.bad_bundle` where what it gives is something else.
    """
    whole, part = folder / f"{order.sha256}.qup", folder / f"{order.sha256}.part"
    await asyncio.to_thread(_make_room, folder, {whole.name, part.name}, order.size)
    if await asyncio.to_thread(_is_ordered, whole, order):
        return whole
    if order.source.startswith("/"):
        await asyncio.to_thread(_copy, Path(order.source), part, order)
    else:
        await _download(order, part, watch, first_delay_s)
    if not await asyncio.to_thread(_is_ordered, part, order):
        part.unlink(missing_ok=True)
        raise QedgeError(
            "update.bad_bundle",
            "What was fetched has another size or hash than the order says.",
            fix="Compare the order with what `qedge update check` says of the bundle.",
        )
    part.replace(whole)
    return whole


def _make_room(folder: Path, mine: set[str], size: int) -> None:
    """Remove what earlier orders left, and see that there is room for the whole."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for path in folder.iterdir():
        if path.suffix in (".qup", ".part") and path.name not in mine:
            path.unlink()
    there = sum(path.stat().st_size for path in folder.iterdir() if path.name in mine)
    if shutil.disk_usage(folder).free + there < size + _SPARE_BYTES:
        raise QedgeError("update.not_fetched", "There is no room for the bundle in the state folder.", fix="Make room.")


def _is_ordered(path: Path, order: SoftwareUpdate) -> bool:
    if not path.is_file() or path.stat().st_size != order.size:
        return False
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
        os.fsync(file.fileno())
    return digest.hexdigest() == order.sha256


def _copy(source: Path, part: Path, order: SoftwareUpdate) -> None:
    left = order.size
    try:
        # Non-blocking, so that a pipe of this name holds nobody up.
        descriptor = os.open(source, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file, part.open("wb") as copy:
            while left > 0 and (piece := file.read(min(_PIECE, left))):
                copy.write(piece)
                left -= len(piece)
    except OSError as error:
        raise QedgeError(
            "update.not_fetched",
            f"{source} cannot be read: {error.strerror or error}.",
            fix="Name a file that the service may read; it sees neither home folders nor /tmp.",
        ) from error


async def _download(order: SoftwareUpdate, part: Path, watch: Watch, delay_s: float) -> None:
    limits = aiohttp.ClientTimeout(total=None, sock_connect=_SILENCE_S, sock_read=_SILENCE_S)
    async with aiohttp.ClientSession(timeout=limits, auto_decompress=False) as session:
        for number in range(_TRIES):
            before = _size(part)
            if before >= order.size:
                return  # what is too large is found out with the hash
            try:
                await _download_once(session, order, part, watch)
            except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
                if number == _TRIES - 1:
                    raise QedgeError(
                        "update.not_fetched",
                        f"The bundle cannot be fetched: {str(error) or type(error).__name__}.",
                        fix="See that the box reaches the address of the order.",
                    ) from error
            if _size(part) > before:
                delay_s = min(delay_s, _FIRST_DELAY_S)  # it moves
            if _size(part) < order.size:
                await asyncio.sleep(delay_s)
                delay_s = min(2 * delay_s, _MAX_DELAY_S)


async def _download_once(session: aiohttp.ClientSession, order: SoftwareUpdate, part: Path, watch: Watch) -> None:
    """Ask for what is missing and append it; a server that sends all from the start is taken at its word."""
    have = _size(part)
    headers = {"Range": f"bytes={have}-"} if have else {}
    async with session.get(order.source, headers=headers, max_redirects=_MAX_REDIRECTS) as answer:
        if 400 <= answer.status < 500 and answer.status not in (408, 416, 425, 429):
            raise QedgeError(
                "update.not_fetched",
                f"The server answers {answer.status} to the address of the bundle.",
                fix="Correct the address in the order.",
            )
        if answer.status == 416:
            await asyncio.to_thread(part.unlink, missing_ok=True)
            return
        answer.raise_for_status()
        goes_on = answer.status == 206 and answer.headers.get("Content-Range", "").startswith(f"bytes {have}-")
        have = have if goes_on else 0
        with part.open("ab" if goes_on else "wb") as file:
            async for piece in answer.content.iter_chunked(_PIECE):
                have += len(piece)
                if have > order.size:
                    raise QedgeError(
                        "update.bad_bundle", "The server sends more than the order says.", fix="Correct the order."
                    )
                await asyncio.to_thread(file.write, piece)
                watch(have / order.size)


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0
