"""The HTTP service as a real server on a real unix socket and a real loopback port."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import socket
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from qedge.base.errors import QedgeError
from qedge.wire.jobs import JobState, JobSubmission, JobView
from qedge.wire.node import DriverChange, LinkMeasure, NodeStatus, PingRequest, RandomRequest
from tests.integration.web_site import Site, serving

pytestmark = pytest.mark.integration

BELL = 'OPENQASM 2.0; include "qelib1.inc"; qreg q[2]; creg c[2]; h q[0]; cx q[0],q[1]; measure q -> c;'
NOBODY = 65_534


async def tcp(site: Site, method: str, path: str, **options: Any) -> tuple[int, dict[str, str], bytes]:
    """Ask over loopback TCP without any session."""
    async with aiohttp.ClientSession() as session, session.request(method, site.url + path, **options) as answer:
        return answer.status, dict(answer.headers), await answer.read()


async def test_every_route_of_the_client_works_over_the_unix_socket(tmp_path: Path) -> None:
    async with serving(tmp_path) as site, site.client() as node:
        assert (await node.status()).node == "box-1"
        await node.live()
        assert (await node.ready()).ready
        assert "# TYPE qedge_http_requests_total counter" in await node.metrics()
        job = await node.submit(JobSubmission(program=BELL, shots=100))
        done = await node.wait(job.id, timeout_s=30)
        assert done.result is not None
        assert sum(done.result.counts.values()) == 100
        assert done.client == f"uid:{os.getuid()}"
        assert (await node.estimate(JobSubmission(program=BELL))).qubits == 2
        assert [listed.id for listed in await node.jobs()] == [job.id]
        assert len(bytes.fromhex((await node.random(RandomRequest(bytes=32))).hex)) == 32
        assert "qpu" in [driver.name for driver in await node.drivers()]
        assert (await node.change_driver("qpu", DriverChange(admin_state="locked"))).admin_state == "locked"
        assert (await node.links())[0].qber == -1
        assert (await node.measure_link("lab", LinkMeasure(sifted=1000))).qber == pytest.approx(0.01)
        assert (await node.ping(PingRequest(node="box-1", count=3))).rtt_ms == (1.0, 1.0, 1.0)
        assert (await node.page_link()).url.startswith(site.url + "/#link=")


async def test_a_job_that_waits_can_be_awaited_and_cancelled(tmp_path: Path) -> None:
    async with serving(tmp_path, instant=False) as site, site.client() as node:
        job = await node.submit(JobSubmission(program=BELL))
        assert (await node.job(job.id, wait_s=0.05)).state is JobState.QUEUED
        assert (await node.cancel(job.id)).state is JobState.CANCELLED
        with pytest.raises(QedgeError) as refused:
            await node.cancel(job.id)
        assert refused.value.code == "job.already_ended"
        late = await node.submit(JobSubmission(program=BELL))
        with pytest.raises(QedgeError) as timed_out:
            await node.wait(late.id, timeout_s=0.05)
        assert timed_out.value.code == "client.timeout"
        waiting = asyncio.create_task(node.wait(late.id, timeout_s=10))
        await asyncio.sleep(0.05)
        site.node.finish(late.id)
        assert (await waiting).state is JobState.DONE


async def test_errors_cross_as_themselves(tmp_path: Path) -> None:
    async with serving(tmp_path) as site, site.client() as node:
        with pytest.raises(QedgeError) as syntax:
            await node.submit(JobSubmission(program="bad"))
        assert (syntax.value.code, syntax.value.details["line"]) == ("circuit.syntax", 1)
        assert syntax.value.fix
        for job_id in ("not-a-uuid", "../../etc/passwd", "00000000-0000-7000-8000-000000000000"):
            with pytest.raises(QedgeError) as missing:
                await node.job(job_id)
            assert missing.value.code in ("job.not_found", "http.not_found")


async def test_events_arrive_while_the_node_changes(tmp_path: Path) -> None:
    async with serving(tmp_path, instant=False, status_interval_s=0.05) as site, site.client() as node:
        seen: list[NodeStatus | JobView] = []
        job_id = ""
        async with asyncio.timeout(30):
            async for event in node.events():
                seen.append(event)
                if len(seen) == 2:
                    job_id = (await node.submit(JobSubmission(program=BELL))).id
                    site.node.finish(job_id)
                if isinstance(event, JobView) and event.state is JobState.DONE:
                    break
        assert isinstance(seen[0], NodeStatus)
        assert seen[-1].id == job_id  # type: ignore[union-attr]  # the loop above ended at a job
        assert seen[-1].result is None  # type: ignore[union-attr]  # as above


async def test_streams_are_bounded_in_number(tmp_path: Path) -> None:
    async with serving(tmp_path, max_streams=1) as site, site.client() as node, site.client() as other:
        first = node.events()
        assert isinstance(await anext(first), NodeStatus)
        with pytest.raises(QedgeError) as busy:
            await anext(other.events())
        assert busy.value.code == "http.busy"
        await first.aclose()  # type: ignore[attr-defined]  # an async generator, typed as iterator


async def test_the_socket_is_private_and_goes_away_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "qedge.sock"
    async with serving(tmp_path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not path.exists()


async def test_a_stale_socket_is_replaced_and_a_live_one_is_not(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "qedge.sock"))
    async with serving(tmp_path) as site:
        with pytest.raises(QedgeError) as running:
            async with serving(tmp_path):
                pass
        assert running.value.code == "start.already_running"
        async with site.client() as node:
            await node.live()


async def test_a_file_in_place_of_the_socket_is_never_removed(tmp_path: Path) -> None:
    (tmp_path / "qedge.sock").write_text("precious")
    with pytest.raises(QedgeError):
        async with serving(tmp_path):
            pass
    assert (tmp_path / "qedge.sock").read_text() == "precious"


async def test_a_taken_port_is_named_with_its_fix(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(QedgeError) as taken:
            async with serving(tmp_path, port=other.getsockname()[1]):
                pass
    assert taken.value.code == "start.port_taken"
    assert not (tmp_path / "qedge.sock").exists()


async def test_without_a_listener_everything_still_works_on_the_socket(tmp_path: Path) -> None:
    async with serving(tmp_path, enabled=False) as site, site.client() as node:
        assert site.url == ""
        assert (await node.status()).node == "box-1"
        with pytest.raises(QedgeError):
            await node.page_link()


def _as_nobody(path: Path, code: str) -> subprocess.CompletedProcess[str]:
    program = f"import os, socket\nos.setgroups([])\nos.setgid({NOBODY})\nos.setuid({NOBODY})\n{code}"
    return subprocess.run([sys.executable, "-I", "-c", program, str(path)], capture_output=True, text=True, timeout=20)


_ASK = """
import sys
s = socket.socket(socket.AF_UNIX)
try:
    s.connect(sys.argv[1])
except PermissionError:
    print("refused by the kernel")
    raise SystemExit
fields = ("Host: x", "Content-Type: application/json", "Content-Length: 2", "Connection: close")
s.sendall("\\r\\n".join(("POST /v1/random HTTP/1.1", *fields, "", "{}")).encode())
data = b""
while chunk := s.recv(4096):
    data += chunk
print(data.decode())
"""


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to become another user")
async def test_another_user_can_neither_connect_nor_draw(tmp_path: Path) -> None:
    for folder in (tmp_path, *(each for each in tmp_path.parents if "pytest" in str(each))):
        folder.chmod(0o755)
    async with serving(tmp_path) as site:
        path = Path(site.service.socket)
        told = await asyncio.to_thread(_as_nobody, path, _ASK)
        assert "refused by the kernel" in told.stdout, told.stderr
        path.chmod(0o666)  # the file mode is not the only guard
        told = await asyncio.to_thread(_as_nobody, path, _ASK)
        assert "403" in told.stdout.splitlines()[0]
        assert "urn:qedge:error:access.denied" in told.stdout


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to become another user")
async def test_a_listed_user_is_let_in(tmp_path: Path) -> None:
    for folder in (tmp_path, *(each for each in tmp_path.parents if "pytest" in str(each))):
        folder.chmod(0o755)
    async with serving(tmp_path, allowed_uids=(NOBODY,)) as site:
        told = await asyncio.to_thread(_as_nobody, Path(site.service.socket), _ASK)
        assert "200" in told.stdout.splitlines()[0], told.stderr
    async with serving(tmp_path, allowed_gids=(NOBODY,)) as site:
        told = await asyncio.to_thread(_as_nobody, Path(site.service.socket), _ASK)
        assert "200" in told.stdout.splitlines()[0]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/status"),
        ("GET", "/v1/jobs"),
        ("POST", "/v1/jobs"),
        ("POST", "/v1/random"),
        ("GET", "/v1/events"),
        ("GET", "/v1/drivers"),
    ],
)
async def test_tcp_without_a_session_sees_nothing(tmp_path: Path, method: str, path: str) -> None:
    async with serving(tmp_path) as site:
        status, headers, body = await tcp(site, method, path)
        assert status == 401
        assert headers["Content-Type"].startswith("application/problem+json")
        assert b"qedge open" in body


async def test_tcp_carries_what_is_public(tmp_path: Path) -> None:
    async with serving(tmp_path) as site:
        for path in ("/health/live", "/health/ready", "/metrics", "/", "/page/app.js"):
            status, headers, body = await tcp(site, "GET", path)
            assert (status, bool(body)) == (200, True)
            assert "default-src 'none'" in headers["Content-Security-Policy"]
            assert headers["X-Content-Type-Options"] == "nosniff"
            assert "unsafe" not in headers["Content-Security-Policy"]
        assert (await tcp(site, "GET", "/page/..%2f..%2fconfig.py"))[0] == 404
        assert (await tcp(site, "GET", "/nothing"))[0] == 404
        assert (await tcp(site, "PUT", "/v1/status"))[0] == 405


async def test_readiness_is_freshness(tmp_path: Path) -> None:
    async with serving(tmp_path) as site, site.client() as node:
        site.node.pulse_age_s = 60.0
        status, _headers, body = await tcp(site, "GET", "/health/ready")
        assert status == 503
        assert b"message pump last moved 60.0 s ago" in body
        site.node.pulse_age_s = 0.1
        site.node.missing = ("bus",)
        view = await node.ready()
        assert not view.ready
        assert view.reasons == ("waiting for bus",)
        assert (await tcp(site, "GET", "/health/live"))[0] == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "evil.example:80"},
        {"Host": "127.0.0.1"},
        {"Host": ""},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "cors"},
        {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "no-cors"},
    ],
)
async def test_other_web_sites_are_refused(tmp_path: Path, headers: dict[str, str]) -> None:
    async with serving(tmp_path) as site:
        for path in ("/", "/metrics", "/health/live", "/v1/status"):
            status, _headers, body = await tcp(site, "GET", path, headers=headers)
            assert status == 403
            assert b"access.bad_origin" in body


async def login(site: Site, session: aiohttp.ClientSession) -> dict[str, str]:
    """Open the page as `qedge open` and a browser do; returns the headers of further requests."""
    async with site.client() as node:
        token = (await node.page_link()).url.partition("#link=")[2]
    async with session.post(site.url + "/v1/page-session", json={"type": "page-login/1", "token": token}) as answer:
        assert answer.status == 200
        assert "HttpOnly" in answer.headers["Set-Cookie"]
        assert "SameSite=Strict" in answer.headers["Set-Cookie"]
        proof = (await answer.json())["proof"]
    async with session.post(site.url + "/v1/page-session", json={"type": "page-login/1", "token": token}) as again:
        assert again.status == 401
    return {"Qedge-Proof": proof}


async def test_a_one_time_link_opens_the_page_and_never_administration(tmp_path: Path) -> None:
    async with (
        serving(tmp_path) as site,
        aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as session,
    ):
        headers = await login(site, session)
        async with session.get(site.url + "/v1/status", headers=headers) as answer:
            assert answer.status == 200
        async with session.get(site.url + "/v1/status") as answer:
            assert answer.status == 401  # the cookie alone, which any port of this host may have collected
        body = msgspec.json.encode(JobSubmission(program=BELL, shots=10))
        async with session.post(
            site.url + "/v1/jobs", data=body, headers={**headers, "Content-Type": "application/json"}
        ) as answer:
            assert answer.status == 202
            assert (await answer.json())["client"] == "page"
        for method, path in (("POST", "/v1/page-link"), ("PATCH", "/v1/drivers/qpu"), ("POST", "/v1/ping")):
            async with session.request(method, site.url + path, headers=headers) as answer:
                assert answer.status == 403
        async with session.delete(site.url + "/v1/page-session", headers=headers) as answer:
            assert answer.status == 204
        async with session.get(site.url + "/v1/status", headers=headers) as answer:
            assert answer.status == 401


async def _raw(port: int, data: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(data)
        writer.write_eof()
        async with asyncio.timeout(30):
            return await reader.read()
    except (ConnectionError, TimeoutError):
        return b""
    finally:
        writer.close()


def garbage(rng: random.Random) -> bytes:
    """Make something that is not a good request."""
    kind = rng.randrange(6)
    if kind == 0:
        return rng.randbytes(rng.randrange(1, 2000))
    if kind == 1:
        return b"GET /" + b"a" * rng.randrange(1, 20_000) + b" HTTP/1.1\r\nHost: x\r\n\r\n"
    if kind == 2:
        return b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999\r\n\r\n{"
    if kind == 3:
        return b"POST /v1/jobs HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\nzz\r\n"
    if kind == 4:
        return b"GET / HTTP/1.1\r\n" + b"X-Y: z\r\n" * rng.randrange(1, 300) + b"\r\n"
    return b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + rng.randbytes(200)


@pytest.mark.parametrize("thousands", [3, pytest.param(10, marks=pytest.mark.long)])
async def test_thousands_of_garbage_requests_leave_the_node_well(tmp_path: Path, thousands: int) -> None:
    rng = random.Random(20_260)
    with Path("/proc/self/status").open() as before_file:
        before_kib = int(next(line for line in before_file if line.startswith("VmRSS")).split()[1])
    async with serving(tmp_path) as site, site.client() as node:
        gate = asyncio.Semaphore(64)

        async def throw() -> None:
            async with gate:
                answer = await _raw(site.port, garbage(rng))
                assert not answer.startswith(b"HTTP/1.1 2")
                assert not answer.startswith(b"HTTP/1.1 500")

        for _ in range(thousands):
            await asyncio.gather(*(throw() for _ in range(1000)))
        assert (await node.status()).node == "box-1"
        assert (await tcp(site, "GET", "/health/live"))[0] == 200
        with Path("/proc/self/status").open() as after_file:
            after_kib = int(next(line for line in after_file if line.startswith("VmRSS")).split()[1])
        assert after_kib - before_kib < 64 * 1024


async def test_bodies_are_bounded_and_checked(tmp_path: Path) -> None:
    json_type = {"Content-Type": "application/json"}
    connector = aiohttp.UnixConnector(str(tmp_path / "qedge.sock"))
    async with serving(tmp_path, body_limit_bytes=4096), aiohttp.ClientSession(connector=connector) as session:
        for body, status in (
            (b"x" * 5000, 413),
            (b"\xff\xfe", 400),
            (b"[" * 4000, 400),
            (b'{"program": 1}', 400),
            (b'{"program": "x", "surprise": 1}', 400),
            (b"", 400),
        ):
            async with session.post("http://localhost/v1/jobs", data=body, headers=json_type) as answer:
                assert answer.status == status, body[:20]
                assert answer.content_type == "application/problem+json"
        async with session.post("http://localhost/v1/jobs", data={"program": "x"}) as answer:
            assert answer.status == 400  # a form, as a plain HTML page could send it
        async with session.get("http://localhost/v1/jobs?limit=inf") as answer:
            assert answer.status == 400


async def test_silent_connections_are_closed_and_full_doors_say_so(tmp_path: Path) -> None:
    async with serving(tmp_path, head_limit_s=0.3, max_connections=8) as site, site.client() as node:
        idle = [await asyncio.open_connection("127.0.0.1", site.port) for _ in range(8)]
        await asyncio.sleep(0.05)
        reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
        async with asyncio.timeout(30):
            assert (await reader.read()).startswith(b"HTTP/1.1 503")
        writer.close()
        await node.live()  # the unix socket has its own room
        async with asyncio.timeout(30):
            for idle_reader, _writer in idle:
                with suppress(ConnectionResetError):
                    assert await idle_reader.read() == b""
        for _reader, idle_writer in idle:
            idle_writer.close()
        assert (await tcp(site, "GET", "/health/live"))[0] == 200


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
async def test_metrics_please_promtool(tmp_path: Path) -> None:
    async with serving(tmp_path) as site, site.client() as node:
        await node.status()
        site.metrics.set("qedge_build_info", 1, ('quo"te', "back\\slash\nline"))
        site.metrics.observe("qedge_job_seconds", 0.002, ("run",))
        text = await node.metrics()
    told = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, timeout=30)
    assert told.returncode == 0, told.stdout + told.stderr
    assert not told.stderr


async def test_stopping_ends_streams_and_waits_at_once(tmp_path: Path) -> None:
    async with serving(tmp_path, instant=False) as site, site.client() as node:
        job = await node.submit(JobSubmission(program=BELL))
        stream = node.events()
        await anext(stream)
        waiting = asyncio.create_task(node.job(job.id, wait_s=30))
        await asyncio.sleep(0.05)
        ended = asyncio.create_task(_drain(stream))
    async with asyncio.timeout(20):
        await asyncio.gather(waiting, ended, return_exceptions=True)


async def _drain(stream: AsyncIterator[NodeStatus | JobView]) -> None:
    async for _event in stream:
        pass


_JOINED = """
import sys
os.setgroups([4242])
os.setgid(65534)
os.setuid(65534)
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
s.sendall(b"GET /v1/status HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n")
print(s.recv(4096).split(b"\\r\\n")[0].decode())
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user needs root")
async def test_a_further_group_of_the_caller_counts_too(tmp_path: Path) -> None:
    tmp_path.chmod(0o711)
    for folder in list(tmp_path.parents)[:3]:
        folder.chmod(folder.stat().st_mode | 0o011)
    async with serving(tmp_path, allowed_gids=(4242,)) as site:
        program = [sys.executable, "-I", "-c", f"import os, socket\n{_JOINED}", site.service.socket]
        done = await asyncio.to_thread(subprocess.run, program, capture_output=True, text=True, timeout=20)
        assert " 200 " in done.stdout, (done.stdout, done.stderr)
