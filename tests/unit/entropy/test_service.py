"""The entropy service: quantum only while the source is well, always random, and always labelled."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable

import pytest

from qedge.base.errors import QedgeError
from qedge.base.metrics import Metrics
from qedge.base.system_clock import SystemClock
from qedge.entropy.config import EntropyConfig
from qedge.entropy.fake import FakeSource
from qedge.entropy.service import EntropyService
from qedge_driver_api import RawSamples

LIMIT_S = 20.0


@pytest.fixture
def source() -> FakeSource:
    """A fair source."""
    return FakeSource(os.urandom)


def make(source: FakeSource | None) -> EntropyService:
    """Make a service with a small pool."""
    config = EntropyConfig(source="fake", pool_bytes=4096, refill_bytes=2048, check_interval_s=0.05)
    return EntropyService(config, source, clock=SystemClock(), metrics=Metrics(), personalization=b"test")


@pytest.fixture
async def service(source: FakeSource) -> AsyncIterator[EntropyService]:
    """A running service."""
    made = make(source)
    task = asyncio.create_task(made.run(lambda: None))
    yield made
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def until(condition: Callable[[], bool]) -> None:
    """Wait until something holds."""
    async with asyncio.timeout(LIMIT_S):
        while not condition():
            await asyncio.sleep(0.01)


def is_quantum(service: EntropyService) -> bool:
    """Say whether a quantum draw would be served now."""
    try:
        return service.get(32, require_quantum=True).quantum
    except QedgeError as error:
        assert error.code == "entropy.no_quantum"
        assert error.fix
        return False


def test_bytes_are_there_before_any_source_and_labelled_so() -> None:
    service = make(None)
    output = service.get(64, require_quantum=False)
    assert (len(output.data), output.quantum, output.simulated, output.source) == (64, False, False, "system")
    assert not is_quantum(service)
    assert len({service.random_bytes(16) for _ in range(1000)}) == 1000


async def test_a_source_that_claims_next_to_no_entropy_is_refused_with_a_reason(source: FakeSource) -> None:
    fair = source.read

    async def poor(num_bytes: int, deadline_s: float) -> RawSamples:
        return RawSamples((await fair(num_bytes, deadline_s)).data, 1, 1e-9)

    source.read = poor  # type: ignore[method-assign]  # what this test is about
    service = make(source)
    task = asyncio.create_task(service.run(lambda: None))
    await until(lambda: "refill_bytes" in service.view().reason or task.done())
    assert not task.done()
    assert not is_quantum(service)
    assert source.reads < 5
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_service_that_ended_while_its_source_was_bad_trusts_it_again_when_it_comes_back(
    source: FakeSource,
) -> None:
    service = make(source)
    source.mode = "stuck"
    task = asyncio.create_task(service.run(lambda: None))
    await until(lambda: "stuck" in service.view().reason)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    source.mode = "fair"
    task = asyncio.create_task(service.run(lambda: None))
    async with asyncio.timeout(2):
        await until(lambda: is_quantum(service))
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_fair_source_becomes_quantum_after_its_startup_test(
    service: EntropyService, source: FakeSource
) -> None:
    await until(lambda: is_quantum(service))
    output = service.get(32, require_quantum=True)
    assert (output.quantum, output.simulated, output.source) == (True, True, "fake")
    assert service.view().healthy
    assert source.reads >= 2


@pytest.mark.parametrize("mode", ["stuck", "silent", "biased"])
async def test_a_source_that_goes_bad_is_caught_at_rest_and_comes_back(
    service: EntropyService, source: FakeSource, mode: str
) -> None:
    await until(lambda: is_quantum(service))
    source.mode = mode
    await until(lambda: not service.view().healthy)
    assert not is_quantum(service)
    assert service.get(32, require_quantum=False).quantum is False
    assert service.view().reason
    source.mode = "fair"
    await until(lambda: is_quantum(service))
    assert service.view().reason == ""


@pytest.mark.parametrize("mode", ["stuck", "silent", "biased"])
async def test_a_source_that_is_bad_from_the_start_never_counts(source: FakeSource, mode: str) -> None:
    source.mode = mode
    service = make(source)
    task = asyncio.create_task(service.run(lambda: None))
    await until(lambda: service.view().failures >= 2)
    assert not is_quantum(service)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_one_bad_window_is_dropped_and_counted_and_the_source_stays(
    service: EntropyService, source: FakeSource
) -> None:
    await until(lambda: is_quantum(service))
    before = service.view().failures
    source.bad_reads = 1
    await until(lambda: service.view().failures > before)
    assert service.view().healthy
    await until(lambda: is_quantum(service))


async def test_repeated_bad_windows_end_the_trust(service: EntropyService, source: FakeSource) -> None:
    await until(lambda: is_quantum(service))
    fell = False
    for _ in range(3):
        before = service.view().failures
        source.bad_reads = 1
        await until(lambda before=before: service.view().failures > before)  # type: ignore[misc]
        fell = fell or not service.view().healthy
    assert fell


async def test_no_block_is_given_twice(service: EntropyService) -> None:
    await until(lambda: is_quantum(service))
    seen = set()
    for _ in range(300):
        seen.add(service.get(16, require_quantum=False).data)
        await asyncio.sleep(0)
    assert len(seen) == 300
