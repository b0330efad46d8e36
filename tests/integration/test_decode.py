"""The decode service of a real daemon with real workers: right corrections, bounds, deaths and what is left."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import msgspec
import numpy as np
import psutil
import pytest

from qedge.base.errors import QedgeError
from qedge.cli.jobs import decode as command
from qedge.client.decoding import DecodeStream
from qedge.client.node import NodeClient
from qedge.engine.qec.model import Memory, memory_errors
from qedge.engine.qec.window import Bits, Stream, memory_pieces
from qedge.wire.decode import Answer, DecodeFailed, DecodeOpen, DecodeOpened, MemoryModel, StimModel, pack_rounds
from qedge.wire.jobs import JobState, JobSubmission
from tests.integration.daemon_process import BELL, DaemonProcess
from tests.unit.cli.test_commands import parse

pytest.importorskip("stim")
pytest.importorskip("pymatching")
pytestmark = pytest.mark.integration

MODEL = MemoryModel("surface", 5, "z", 0.003)
CONFIG = (
    '[drivers.qpu]\ndriver = "sim_qpu"\n[decode]\nmax_streams = 3\nmax_rounds_in_flight = 512\nstream_idle_s = {}\n'
)


@asynccontextmanager
async def running(home: Path, more: str = "", idle_s: float = 3.0) -> AsyncIterator[DaemonProcess]:
    daemon = DaemonProcess(home, CONFIG.format(idle_s) + more)
    daemon.start()
    try:
        await daemon.wait_up()
        yield daemon
    finally:
        daemon.stop()


def shot_of(rounds: int, seed: int, distance: int = 5) -> tuple[Memory, list[Bits]]:
    memory = Memory("surface", distance, rounds, "z", 0.003)
    row = memory.circuit().compile_detector_sampler(seed=seed).sample(1).view(np.uint8)[0]
    bounds = memory_errors(memory).bounds().tolist()
    return memory, [row[begin:end] for begin, end in itertools.pairwise(bounds)]


def packed(rounds: list[Bits], round_bytes: int) -> bytes:
    return b"".join(np.packbits(row, bitorder="little").tobytes().ljust(round_bytes, b"\0") for row in rounds)


def decoded_here(memory: Memory, rounds: list[Bits]) -> list[tuple[int, int]]:
    stream = Stream(memory_pieces(memory, 10, 5))
    found = [(stream.committed, stream.frame) for row in rounds[:-1] if stream.push(row)]
    stream.close(rounds[-1])
    return [*found, (stream.committed, stream.frame)]


async def push_on(socket: aiohttp.ClientWebSocketResponse, batch: int) -> None:
    """Push rounds of one byte and read nothing."""
    for first in itertools.count(0, batch):
        await socket.send_bytes(pack_rounds(first, b"\0" * batch, 1))


async def commits_of(stream: DecodeStream) -> list[tuple[int, int]]:
    return [(each.committed, each.frame) async for each in stream]


async def stream_shot(node: NodeClient, rounds: list[Bits]) -> list[tuple[int, int]]:
    async with node.decode(MODEL, window=10, commit=5) as stream:
        reading = asyncio.create_task(commits_of(stream))
        for begin in range(0, len(rounds) - 1, 7):
            await stream.push(packed(rounds[begin : min(begin + 7, len(rounds) - 1)], stream.opened.round_bytes))
        await stream.close(packed(rounds[-1:], stream.opened.round_bytes))
        assert (await stream.summary()).flushed
        return await reading


def decoding_workers(daemon: DaemonProcess) -> list[psutil.Process]:
    found = []
    for child in psutil.Process(daemon.pid).children():
        try:
            if "qedge.engine.decoding.host:DecodeHost" in child.cmdline():
                found.append(child)
        except psutil.NoSuchProcess:
            continue
    return found


async def until(condition: Callable[[], bool], limit_s: float = 30.0) -> None:
    async with asyncio.timeout(limit_s):
        while not condition():
            await asyncio.sleep(0.05)


async def code_of(stream: DecodeStream) -> QedgeError:
    """Return the error with which a stream ends."""
    with pytest.raises(QedgeError) as caught:
        await stream.summary()
    return caught.value


async def refusal_of(node: NodeClient, model: MemoryModel | StimModel) -> str:
    """Return the code with which a stream is not opened."""
    with pytest.raises(QedgeError) as caught:
        async with node.decode(model):
            raise AssertionError("the stream opened")
    return caught.value.code


async def test_corrections_are_those_of_the_decoder_in_this_process(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon, daemon.client() as node:
        assert decoding_workers(daemon) == []
        shots = [shot_of(300, seed) for seed in range(3)]
        found = await asyncio.gather(*(stream_shot(node, rounds) for _, rounds in shots))
        assert found == [decoded_here(memory, rounds) for memory, rounds in shots]
        assert len(decoding_workers(daemon)) == 1
        text = await node.metrics()
        assert "qedge_decode_rounds_total 903" in text
        assert "qedge_decode_streams 0" in text
        assert 'qedge_decode_streams_ended_total{outcome="closed"} 3' in text
        assert f"qedge_decode_seconds_count {sum(map(len, found))}" in text


async def test_a_killed_worker_ends_its_streams_with_a_reason_and_costs_nothing_else(
    shared_daemon: DaemonProcess,
) -> None:
    daemon = shared_daemon
    async with daemon.client() as node:
        memory, rounds = shot_of(60, 1)
        job = await node.submit(JobSubmission(program=BELL, shots=100))
        async with node.decode(MODEL, window=10, commit=5) as stream, node.decode(MODEL) as other:
            await stream.push(packed(rounds[:31], stream.opened.round_bytes))
            assert [(await anext(commits)).committed for commits in [aiter(stream)] for _ in range(5)][-1] == 25
            os.kill(decoding_workers(daemon)[0].pid, signal.SIGKILL)
            lost = await code_of(stream)
            assert (lost.code, lost.details["committed"], lost.details["received"]) == ("decode.worker_lost", 25, 31)
            assert (await code_of(other)).code == "decode.worker_lost"
            with pytest.raises(QedgeError):
                await stream.push(packed(rounds[31:32], stream.opened.round_bytes))
        assert (await node.wait(job.id, timeout_s=20)).state is JobState.DONE
        assert await stream_shot(node, rounds) == decoded_here(memory, rounds)
        assert (await node.submit(JobSubmission(program=BELL, shots=10), wait_s=20)).state is JobState.DONE


async def test_rounds_beyond_the_credit_are_an_overrun_and_the_node_stays_small(shared_daemon: DaemonProcess) -> None:
    async with shared_daemon.client() as node:
        async with node.decode(MODEL, window=10, commit=5, credit=64) as stream:
            assert stream.opened.credit == 64
            message = pack_rounds(0, b"\0" * 65 * stream.opened.round_bytes, stream.opened.round_bytes)
            await stream._socket.send_bytes(message)
            overrun = await code_of(stream)
        assert (overrun.code, overrun.details["committed"], overrun.details["received"]) == ("decode.overrun", 0, 0)
        async with node.decode(MODEL, window=10, commit=5, credit=64) as stream:
            for _ in range(200):  # the client waits for credit by itself
                await stream.push(b"\0" * 50 * stream.opened.round_bytes)
            await stream.close()
            assert (await stream.summary()).rounds == 10_000


async def test_a_client_that_never_reads_is_ended_and_its_memory_is_bounded(shared_daemon: DaemonProcess) -> None:
    daemon = shared_daemon
    async with daemon.client() as node:
        ended = await overruns(node)
    async with aiohttp_socket(daemon) as socket:
        before = psutil.Process(daemon.pid).memory_info().rss
        await socket.send_str(msgspec.json.encode(DecodeOpen(MemoryModel("repetition", 3), 2, 1)).decode())
        opened = msgspec.json.decode((await socket.receive()).data, type=DecodeOpened)
        with pytest.raises((ConnectionError, aiohttp.ClientError)):
            await push_on(socket, min(200, opened.credit))
        assert psutil.Process(daemon.pid).memory_info().rss - before < 64 << 20
        async with daemon.client() as node:
            await node.live()
            assert await overruns(node) == ended + 1


async def overruns(node: NodeClient) -> float:
    """Return how many streams have been ended because more came than their credit allows."""
    lines = [line for line in (await node.metrics()).splitlines() if 'outcome="decode.overrun"' in line]
    return sum(float(line.rpartition(" ")[2]) for line in lines)


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (b"", "decode.bad_frame"),
        (b"\xff" * 64, "decode.bad_frame"),
        (pack_rounds(1, b"\0\0\0", 3), "decode.out_of_order"),
        (pack_rounds(0, b"\xff\xff\xff", 3), "decode.bad_frame"),
        (pack_rounds(0, b"\0\0\0", 3, closing=True), "decode.bad_frame"),
        ('{"type": "decode-close/1", "more": 1}', "decode.bad_open"),
        ("garbage", "decode.bad_open"),
        (msgspec.json.encode(DecodeOpen(MODEL)).decode(), "decode.bad_open"),
    ],
)
async def test_garbage_ends_the_stream_with_its_code(shared_daemon: DaemonProcess, message: object, code: str) -> None:
    async with shared_daemon.client() as node, node.decode(MODEL) as stream:
        await (
            stream._socket.send_bytes(message) if isinstance(message, bytes) else stream._socket.send_str(str(message))
        )
        assert (await code_of(stream)).code == code


@pytest.mark.parametrize(
    ("model", "code"),
    [
        (StimModel("error(0.1) D1000000000"), "decode.model_too_large"),
        (StimModel("repeat 1000000000 {\nerror(0.1) D0\nshift_detectors 1\n}"), "decode.model_too_large"),
        (StimModel("no model"), "decode.bad_model"),
        (MemoryModel(distance=4), "decode.bad_model"),
    ],
)
async def test_a_model_that_does_not_fit_is_refused_and_the_worker_lives(
    shared_daemon: DaemonProcess, model: MemoryModel | StimModel, code: str
) -> None:
    async with shared_daemon.client() as node:
        await stream_shot(node, shot_of(20, 1)[1])
        worker = decoding_workers(shared_daemon)[0]
        before = worker.memory_info().rss
        assert await refusal_of(node, model) == code
        assert worker.is_running()
        assert worker.memory_info().rss - before < 64 << 20


async def test_streams_beyond_the_limit_are_refused_and_a_closed_one_makes_room(shared_daemon: DaemonProcess) -> None:
    async with shared_daemon.client() as node, node.decode(MODEL), node.decode(MODEL):
        async with node.decode(MODEL):
            assert await refusal_of(node, MODEL) == "decode.too_many_streams"
        async with node.decode(MODEL) as stream:
            assert stream.opened.cached


async def test_a_silent_stream_is_ended(shared_daemon: DaemonProcess) -> None:
    async with shared_daemon.client() as node, node.decode(MODEL) as stream:
        await stream.push(b"\0\0\0" * 20)
        idle = await code_of(stream)
    assert (idle.code, idle.details["received"]) == ("decode.idle", 20)


@pytest.mark.long
async def test_an_idle_worker_is_stopped_and_comes_back(tmp_path: Path) -> None:
    async with running(tmp_path, "worker_idle_s = 0.5\n") as daemon, daemon.client() as node:
        memory, rounds = shot_of(30, 4)
        for _ in range(2):
            assert await stream_shot(node, rounds) == decoded_here(memory, rounds)
            await until(lambda: not decoding_workers(daemon))


@pytest.mark.long
async def test_streams_spread_over_workers(tmp_path: Path) -> None:
    async with running(tmp_path, "workers = 2\n", 60.0) as daemon, daemon.client() as node:
        async with node.decode(MODEL) as first, node.decode(MODEL), node.decode(MODEL):
            workers = decoding_workers(daemon)
            assert len(workers) == 2
            os.kill(min(workers, key=lambda each: each.create_time()).pid, signal.SIGKILL)
            assert (await code_of(first)).code == "decode.worker_lost"
        await stream_shot(node, shot_of(20, 1)[1])


async def test_a_daemon_that_stops_ends_its_streams(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon, daemon.client() as node, node.decode(MODEL) as stream:
        await stream.push(b"\0\0\0")
        assert await asyncio.to_thread(daemon.stop) == 0
        assert (await code_of(stream)).code in ("decode.broken", "internal.stopping")


@pytest.mark.parametrize("records", ["01", "b8"])
async def test_the_command_decodes_files_of_stim(
    shared_daemon: DaemonProcess, tmp_path: Path, capsys: pytest.CaptureFixture[str], records: str
) -> None:
    memory, _ = shot_of(25, 0)
    file = tmp_path / "events"
    sampler = memory.circuit().compile_detector_sampler(seed=8)
    rows = sampler.sample(4)
    if records == "01":
        file.write_text("".join("".join("01"[bit] for bit in row) + "\n" for row in rows.astype(int)))
    else:
        file.write_bytes(np.packbits(rows, axis=1, bitorder="little").tobytes())
    words = [str(file), "--model", "surface", "--distance", "5", "--error-rate", "0.003", "--window", "10", "--commit"]
    args = parse(command, *words, "5", "--format", records, *(["--rounds", "26"] if records == "b8" else []), "--json")
    args.socket = str(shared_daemon.socket)
    assert await asyncio.to_thread(command.run, args) == 0
    lines = [msgspec.json.decode(line) for line in capsys.readouterr().out.splitlines()]
    bounds = memory_errors(memory).bounds().tolist()
    for shot, row in enumerate(rows.view(np.uint8)):
        events = [row[begin:end] for begin, end in itertools.pairwise(bounds)]
        commits = [(each["committed"], each["frame"]) for each in lines if each["shot"] == shot and "flips" in each]
        assert commits == decoded_here(memory, events)
    assert [each["committed"] for each in lines if each.get("type") == "decode-summary/1"] == [26] * 4


@asynccontextmanager
async def aiohttp_socket(daemon: DaemonProcess) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    connector = aiohttp.UnixConnector(str(daemon.socket))
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        session.ws_connect("http://localhost/v1/decode") as socket,
    ):
        yield socket


@pytest.fixture(scope="module")
def shared_daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonProcess]:
    """One daemon for the tests that break nothing but streams and the worker, which comes back."""
    daemon = DaemonProcess(tmp_path_factory.mktemp("shared"), CONFIG.format(3.0))
    daemon.start()
    asyncio.run(daemon.wait_up())
    yield daemon
    daemon.stop()


def test_a_failed_stream_is_described_to_other_programs() -> None:
    text = (
        '{"type": "decode-failed/1", "problem": {"type": "urn:qedge:error:decode.overrun", "title": "", "status": 429}}'
    )
    answer = msgspec.json.decode(text, type=Answer)
    assert isinstance(answer, DecodeFailed)
