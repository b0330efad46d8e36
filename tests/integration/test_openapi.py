"""The description of the HTTP interface is true: requests made from it get the answers that it promises."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from qedge.web import openapi
from qedge.web.routes import ROUTES
from tests.integration.daemon_process import DaemonProcess

pytestmark = pytest.mark.integration

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
PATHS = (
    r"^/(v1/(jobs|batches|templates|random|status|peers|links|drivers|identity|ping)|health/(live|ready))(/\{\w+\})?$"
)


@asynccontextmanager
async def forwarded(socket: Path) -> AsyncIterator[int]:
    """Let TCP clients of this box reach a unix socket; yields the port."""

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_unix_connection(str(socket))
        await asyncio.gather(pump(reader, inner_writer), pump(inner_reader, writer), return_exceptions=True)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def _run_schemathesis(folder: Path, examples: int) -> None:
    pytest.importorskip("schemathesis")
    daemon = DaemonProcess(folder / "home", '[drivers.qpu]\ndriver = "sim_qpu"\n[drivers.qrng]\ndriver = "sim_qrng"\n')
    daemon.start()
    try:
        await daemon.wait_up()
        described = folder / "openapi.json"
        described.write_bytes(openapi.document(ROUTES))
        async with forwarded(daemon.socket) as port:
            command = [sys.executable, "-m", "schemathesis.cli", "run", str(described)]
            command += ["--url", f"http://127.0.0.1:{port}", "--checks", CHECKS, "--include-path-regex", PATHS]
            command += ["--phases", "examples,fuzzing", "--max-examples", str(examples), "--seed", "7", "--no-color"]
            command += ["--suppress-health-check", "all", "--request-timeout", "40"]
            process = await asyncio.create_subprocess_exec(
                *command, cwd=folder, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
            )
            async with asyncio.timeout(500):
                said, _ = await process.communicate()
        assert process.returncode == 0, said.decode()[-6000:]
    finally:
        daemon.stop()


async def test_answers_are_what_the_description_promises(tmp_path: Path) -> None:
    await _run_schemathesis(tmp_path, 6)


@pytest.mark.long
async def test_answers_are_what_the_description_promises_many_times(tmp_path: Path) -> None:
    await _run_schemathesis(tmp_path, 300)


def test_every_route_is_described_once() -> None:
    described = json.loads(openapi.document(ROUTES))
    found = {(method.upper(), path) for path, methods in described["paths"].items() for method in methods}
    wanted = {
        (route.method, route.pattern)
        for route in ROUTES
        if route.pattern.startswith(("/v1/", "/health/")) and (route.messages or not route.endless)
    }
    assert found == wanted
    ids = [each["operationId"] for methods in described["paths"].values() for each in methods.values()]
    assert len(ids) == len(set(ids))
    assert all(each["summary"] for methods in described["paths"].values() for each in methods.values())


def test_the_messages_of_a_websocket_are_described() -> None:
    described = json.loads(openapi.document(ROUTES))
    operation = described["paths"]["/v1/decode"]["get"]
    said = {
        side: {each["$ref"].rpartition("/")[2] for each in operation["x-websocket"][side]["anyOf"]}
        for side in ("caller", "node")
    }
    assert said == {
        "caller": {"DecodeOpen", "DecodeClose"},
        "node": {"DecodeOpened", "DecodeSummary", "DecodeFailed"},
    }
    assert {"101", "default"} == set(operation["responses"])
    assert {"MemoryModel", "StimModel"} <= set(described["components"]["schemas"])
