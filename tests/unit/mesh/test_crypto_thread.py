"""Work outside the event loop, and work of which the tail is cut by doing it twice."""

from __future__ import annotations

import asyncio
import itertools
import secrets
import threading
from collections.abc import Iterator

import pytest

from qedge.base.errors import QedgeError
from qedge.crypto.keys import generate
from qedge.mesh.crypto_thread import CryptoThread


@pytest.fixture
def thread() -> Iterator[CryptoThread]:
    made = CryptoThread(again_s=0.001)
    yield made
    made.close()


async def test_what_takes_long_is_begun_again_and_the_first_end_counts(thread: CryptoThread) -> None:
    numbers, go = itertools.count(), threading.Event()

    def unlucky_first() -> int:
        number = next(numbers)
        if number == 0:
            go.wait(30)
        return number

    try:
        assert await thread.run_twice(unlucky_first) == 1
    finally:
        go.set()


async def test_what_is_short_is_done_once() -> None:
    patient, calls = CryptoThread(again_s=60), list[str]()
    await patient.run_twice(calls.append, "x")
    patient.close()
    assert calls == ["x"]


async def test_it_does_not_wait_behind_long_work_of_others(thread: CryptoThread) -> None:
    go = threading.Event()
    before = asyncio.create_task(thread.run(go.wait, 30))
    await asyncio.sleep(0)
    assert await thread.run_twice(int, "7") == 7
    go.set()
    assert await before


async def test_an_error_is_raised_where_it_was_asked_for(thread: CryptoThread) -> None:
    def fail() -> None:
        raise QedgeError("auth.bad_key", "No.")

    for run in (thread.run, thread.run_twice):
        with pytest.raises(QedgeError, match="No"):
            await run(fail)


async def test_one_key_signs_in_both_threads_at_once(thread: CryptoThread) -> None:
    key = generate("ml-dsa-65", secrets.token_bytes)
    other = CryptoThread()
    signatures = await asyncio.gather(
        *(each.run(key.sign, b"%d" % number, "self-test") for number in range(20) for each in (thread, other))
    )
    other.close()
    for place, signature in enumerate(signatures):
        key.public_key.verify(signature, b"%d" % (place // 2), "self-test")
