"""A bundle is fetched once, within bounds, and goes on where a transfer broke off."""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from qedge.base.errors import QedgeError
from qedge.fleet.update.fetching import fetch
from qedge.wire.update import SoftwareUpdate

DATA = bytes(range(256)) * 4096
SHA256 = hashlib.sha256(DATA).hexdigest()


class Source:
    """A server that breaks off as told; `asked` are the ranges that it was asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.cut_after: list[int] = []
        self.ranges = True
        self.status = 200
        self.data = DATA

    async def get(self, request: web.Request) -> web.StreamResponse:
        """Answer, perhaps in part."""
        asked = request.headers.get("Range", "")
        self.asked.append(asked)
        if self.status != 200:
            return web.Response(status=self.status)
        begin = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and self.ranges else 0
        answer = web.StreamResponse(status=206 if begin else 200)
        if begin:
            answer.headers["Content-Range"] = f"bytes {begin}-{len(self.data) - 1}/{len(self.data)}"
        answer.content_length = len(self.data) - begin
        await answer.prepare(request)
        if self.cut_after:
            await answer.write(self.data[begin : begin + self.cut_after.pop(0)])
            assert request.transport is not None
            request.transport.close()
            return answer
        await answer.write(self.data[begin:])
        return answer


@pytest.fixture
def source() -> Source:
    """Return what the server serves."""
    return Source()


@pytest.fixture
async def address(source: Source) -> AsyncIterator[str]:
    """Serve it."""
    app = web.Application()
    app.router.add_get("/x.qup", source.get)
    async with TestServer(app) as server:
        yield str(server.make_url("/x.qup"))


def _order(source: str, sha256: str = SHA256, size: int = len(DATA)) -> SoftwareUpdate:
    return SoftwareUpdate("0.2.0", source, sha256, size)


async def _fetch(order: SoftwareUpdate, folder: Path, watch: Callable[[float], None] = lambda _share: None) -> Path:
    return await fetch(order, folder, watch, first_delay_s=0.001)


async def test_a_transfer_that_breaks_off_goes_on_where_it_was(tmp_path: Path, source: Source, address: str) -> None:
    source.cut_after = [300_000, 300_000]
    shares: list[float] = []
    path = await _fetch(_order(address), tmp_path, shares.append)
    assert path.read_bytes() == DATA
    assert source.asked[0] == ""
    assert all(each.startswith("bytes=") for each in source.asked[1:])
    assert len(source.asked) == 3
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


async def test_a_daemon_that_was_restarted_fetches_only_the_rest(tmp_path: Path, source: Source, address: str) -> None:
    (tmp_path / f"{SHA256}.part").write_bytes(DATA[:1000])
    (tmp_path / f"{'0' * 64}.qup").write_bytes(b"of an earlier order")
    assert (await _fetch(_order(address), tmp_path)).read_bytes() == DATA
    assert source.asked == ["bytes=1000-"]
    assert [path.name for path in tmp_path.iterdir()] == [f"{SHA256}.qup"]
    assert (await _fetch(_order(address), tmp_path)).read_bytes() == DATA
    assert len(source.asked) == 1


async def test_a_server_without_ranges_begins_anew(tmp_path: Path, source: Source, address: str) -> None:
    source.ranges = False
    source.cut_after = [500_000]
    assert (await _fetch(_order(address), tmp_path)).read_bytes() == DATA


async def test_more_than_was_ordered_is_not_taken(tmp_path: Path, source: Source, address: str) -> None:
    with pytest.raises(QedgeError) as caught:
        await _fetch(_order(address, size=1000), tmp_path)
    assert caught.value.code == "update.bad_bundle"
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 1000


async def test_something_else_of_the_same_size_is_not_taken(tmp_path: Path, source: Source, address: str) -> None:
    source.data = bytes(len(DATA))
    with pytest.raises(QedgeError) as caught:
        await _fetch(_order(address), tmp_path)
    assert caught.value.code == "update.bad_bundle"
    assert list(tmp_path.iterdir()) == []


async def test_an_address_that_leads_nowhere_is_told_at_once(tmp_path: Path, source: Source, address: str) -> None:
    source.status = 404
    with pytest.raises(QedgeError) as caught:
        await _fetch(_order(address), tmp_path)
    assert caught.value.code == "update.not_fetched"
    assert len(source.asked) == 1


async def test_a_path_of_the_box_is_copied(tmp_path: Path) -> None:
    (tmp_path / "given").write_bytes(DATA)
    path = await _fetch(_order(str(tmp_path / "given")), tmp_path / "staging")
    assert path.read_bytes() == DATA


@pytest.mark.parametrize("kind", ["missing", "folder", "pipe", "short", "endless"])
async def test_a_path_that_is_no_such_bundle_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "given"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "short":
        path.write_bytes(DATA[:-1])
    given = "/dev/zero" if kind == "endless" else str(path)
    with pytest.raises(QedgeError) as caught:
        await _fetch(_order(given), tmp_path / "staging")
    assert caught.value.code in ("update.not_fetched", "update.bad_bundle")


async def test_a_bundle_that_does_not_fit_the_disk_is_refused_before_it_is_fetched(
    tmp_path: Path, source: Source, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = os.statvfs(tmp_path)
    monkeypatch.setattr("qedge.fleet.update.fetching._SPARE_BYTES", usage.f_frsize * usage.f_blocks + 1)
    with pytest.raises(QedgeError) as caught:
        await _fetch(_order(address), tmp_path)
    assert caught.value.code == "update.not_fetched"
    assert source.asked == []
