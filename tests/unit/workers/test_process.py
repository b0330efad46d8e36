"""A worker process that never came to be leaves nothing open."""

from __future__ import annotations

import asyncio
import errno
import os
import socket

import pytest

from qedge.base.system_clock import SystemClock
from qedge.workers.model import WorkerSpec
from qedge.workers.process import WorkerProcess


@pytest.mark.parametrize("failure", [OSError(errno.EAGAIN, os.strerror(errno.EAGAIN)), asyncio.CancelledError()])
async def test_a_process_that_cannot_be_made_leaves_no_socket_open(
    monkeypatch: pytest.MonkeyPatch, failure: BaseException
) -> None:
    pairs = list[tuple[socket.socket, socket.socket]]()
    make_pair = socket.socketpair

    def noted() -> tuple[socket.socket, socket.socket]:
        pairs.append(make_pair())
        return pairs[-1]

    async def refused(*_command: str, **_how: object) -> object:
        raise failure

    monkeypatch.setattr(socket, "socketpair", noted)
    monkeypatch.setattr(asyncio, "create_subprocess_exec", refused)
    worker = WorkerProcess(WorkerSpec("test", "nowhere:Target"), clock=SystemClock(), random_bytes=os.urandom)
    with pytest.raises(type(failure)):
        await worker.start()
    await worker.close()
    await asyncio.sleep(0)
    assert [each.fileno() for pair in pairs for each in pair] == [-1, -1]
