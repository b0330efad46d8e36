"""What thin-edge.io may have done: where files go, what is refused, what is told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from qedge.base.clock import ManualClock
from qedge.base.errors import QedgeError
from qedge.base.metrics import Metrics
from qedge.bus.model import Incoming
from qedge.daemon.fleet.local_operations import OfferedUpdate
from qedge.fleet.thin_edge.commands import LocalCommand, Status
from qedge.fleet.thin_edge.desk import CommandDesk
from qedge.fleet.thin_edge.files import MAX_UPLOAD_BYTES, FileTransfer, require_ours
from qedge.fleet.thin_edge.journal import StoredCommands
from qedge.fleet.thin_edge.mapping import Json
from qedge.fleet.thin_edge.operations import (
    SoftwareList,
    SoftwareUpdateHere,
    Upload,
    select_lines,
    wanted_lines,
    wanted_text,
    wanted_version,
)
from qedge.fleet.update.offers import Offers
from qedge.store.spool_schemas import TELEMETRY_SCHEMA
from qedge.store.store import Store
from qedge.wire.update import Outcome, UpdateReport
from tests.unit.fleet.update.bundles import digest_of, make, make_release_key, make_site

BASE = "te/device/main/service/qedge/cmd"


class FilePlace:
    """A file transfer service on loopback that keeps what it is given."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.puts = 0
        self.status = 201
        self.redirect = ""
        self.go = asyncio.Event()
        self.go.set()
        self.base = ""

    async def put(self, request: web.Request) -> web.Response:
        self.puts += 1
        data = await request.read()
        await self.go.wait()
        if self.redirect:
            return web.Response(status=307, headers={"Location": self.redirect})
        if self.status < 300:
            self.files[request.path] = data
        return web.Response(status=self.status)


@asynccontextmanager
async def file_place() -> AsyncIterator[FilePlace]:
    """Run a file transfer service."""
    place = FilePlace()
    app = web.Application(client_max_size=2 * MAX_UPLOAD_BYTES)
    app.router.add_put("/{name:.*}", place.put)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    place.base = f"http://{host}:{port}"
    try:
        yield place
    finally:
        place.go.set()
        await runner.cleanup()


def command(kind: str, fields: Mapping[str, Json], name: str = "c1") -> LocalCommand:
    return LocalCommand(f"{BASE}/{kind}/{name}", kind, name, Status.EXECUTING, fields)


async def content(_command: LocalCommand) -> bytes:
    return b"settings"


async def test_a_file_goes_where_the_command_says_or_to_a_place_of_its_own() -> None:
    async with file_place() as place:
        upload = Upload("config_snapshot", "main-qedge", FileTransfer(place.base), content)
        wanted = f"{place.base}/te/v1/files/x/config_snapshot/qedge-c1"
        assert await upload.run(command("config_snapshot", {"tedgeUrl": wanted, "type": "qedge"})) == {
            "tedgeUrl": wanted
        }
        found = await upload.run(command("config_snapshot", {"type": "qedge"}))
        assert found == {"tedgeUrl": f"{place.base}/te/v1/files/main-qedge/config_snapshot/qedge-c1"}
        older = f"{place.base}/tedge/file-transfer/x/y"
        await upload.recover(command("config_snapshot", {"tedgeUrl": older}))
        assert sorted(place.files.values()) == [b"settings"] * 3


@pytest.mark.parametrize(
    "url",
    [
        "http://evil.example:8000/te/v1/files/x",
        "http://127.0.0.1:8001/te/v1/files/x",
        "https://127.0.0.1:8000/te/v1/files/x",
        "http://user:word@127.0.0.1:8000/te/v1/files/x",
        "http://127.0.0.1:8000@evil.example/te/v1/files/x",
        "http://127.0.0.1:8000/te/v1/files/../../admin",
        "http://127.0.0.1:8000/te/v1/files/%2e%2E/entities/x",
        "http://127.0.0.1:8000/te/v1/files/..%5centities",
        "http://127.0.0.1:8000/te/v1/files/x?to=evil",
        "http://127.0.0.1:8000/c8y/x",
        "file:///etc/passwd",
        "http://[::1",
        "http://127.0.0.1:99999/te/v1/files/x",
        "",
    ],
)
def test_nothing_is_uploaded_to_any_other_place(url: str) -> None:
    with pytest.raises(QedgeError) as error:
        require_ours(url, "http://127.0.0.1:8000")
    assert error.value.code == "adapter.refused"


async def test_a_service_that_refuses_redirects_or_hangs_fails_the_command() -> None:
    async with file_place() as place, file_place() as elsewhere:
        transfer = FileTransfer(place.base, limit_s=0.3)
        url = f"{place.base}/te/v1/files/x"
        place.status = 507
        with pytest.raises(QedgeError, match="status 507"):
            await transfer.put(url, b"x")
        place.redirect = f"{elsewhere.base}/te/v1/files/x"
        with pytest.raises(QedgeError, match="status 307"):
            await transfer.put(url, b"x")
        assert elsewhere.puts == 0
        place.go.clear()
        with pytest.raises(QedgeError, match="did not answer"):
            await transfer.put(url, b"x")
        with pytest.raises(QedgeError, match="more than"):
            await transfer.put(url, bytes(MAX_UPLOAD_BYTES + 1))
    with pytest.raises(QedgeError) as error:
        await transfer.put(url, b"x")
    assert error.value.code == "adapter.not_uploaded"


async def test_a_type_that_the_node_does_not_have_is_told() -> None:
    upload = Upload("log_upload", "main-qedge", FileTransfer("http://127.0.0.1:8000"), content)
    with pytest.raises(QedgeError, match="nothing of that type"):
        await upload.run(command("log_upload", {"type": "mosquitto"}))
    with pytest.raises(QedgeError, match="no text"):
        await upload.run(command("log_upload", {"tedgeUrl": 3}))


def line(number: int) -> str:
    return json.dumps({"event": f"e{number}", "timestamp": f"2027-01-01T00:{number:02d}:00.000000Z"})


def test_lines_of_the_log_are_chosen_by_date_and_number() -> None:
    lines = [line(number) for number in range(30)]
    fields: dict[str, Json] = {"dateFrom": "2027-01-01T01:05:00.000+01:00", "dateTo": "2027-01-01T00:09:30.000+00:00"}
    assert [json.loads(each)["event"] for each in select_lines(lines, fields).splitlines()] == [
        f"e{number}" for number in range(5, 10)
    ]
    assert len(select_lines(lines, {"lines": 3}).splitlines()) == 3
    assert select_lines(["no json"], fields) == b""
    for wrong in ({"dateFrom": "yesterday"}, {"dateTo": "2027-01-01T00:00:00"}, {"lines": 0}, {"lines": "many"}):
        with pytest.raises(QedgeError) as error:
            select_lines(lines, wrong)  # type: ignore[arg-type] # JSON of a test
        assert error.value.code == "adapter.bad_command"
    assert (wanted_lines({}), wanted_text({"searchText": None})) == (2000, "")


async def test_the_list_of_software_names_the_program() -> None:
    found = await SoftwareList("1.2.3").run(command("software_list", {}))
    assert found == {"currentSoftwareList": [{"type": "qedge", "modules": [{"name": "qedge", "version": "1.2.3"}]}]}


def updates(**module: Json) -> dict[str, Json]:
    return {"updateList": [{"type": "qedge", "modules": [{"name": "qedge", "action": "install", **module}]}]}


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        (updates(url="https://evil.example/qedge.qup"), "adapter.refused"),
        (updates(action="remove"), "adapter.refused"),
        (updates(name="bash"), "adapter.refused"),
        ({"updateList": [{"type": "apt", "modules": [{"name": "qedge"}]}]}, "adapter.refused"),
        ({"updateList": []}, "adapter.bad_command"),
        ({"updateList": [{"type": "qedge", "modules": [{"name": "qedge"}, {"name": "qedge"}]}]}, "adapter.bad_command"),
        ({"updateList": {"type": "qedge"}}, "adapter.bad_command"),
        ({"updateList": ["qedge"]}, "adapter.bad_command"),
        ({}, "adapter.bad_command"),
    ],
)
def test_only_the_program_itself_is_installed_and_from_no_address(fields: dict[str, Json], code: str) -> None:
    with pytest.raises(QedgeError) as error:
        wanted_version(fields)
    assert error.value.code == code


def test_an_update_names_its_version_or_means_the_newest() -> None:
    assert wanted_version(updates(version="1.2.0")) == "1.2.0"
    assert wanted_version(updates()) == wanted_version(updates(version="latest")) == ""


def test_newer_bundles_that_fit_are_offered_and_nothing_else(tmp_path: Path) -> None:
    folder, secret = tmp_path / "offered", make_release_key()
    offers = Offers(folder, current="0.2.0", python="3.11", platform="linux-x86_64")
    assert offers.all() == []
    folder.mkdir()
    for number, version in enumerate(("0.1.0", "0.2.0", "0.3.0", "0.10.0")):
        make(tmp_path, secret, version).rename(folder / f"{number}.qup")
    make(tmp_path, secret, "9.0.0", platform="linux-riscv64").rename(folder / "other.qup")
    (folder / "junk.qup").write_bytes(b"junk")
    assert [each.version for each in offers.all()] == ["0.3.0", "0.10.0"]
    order = offers.order()
    assert (order.version, order.sha256) == ("0.10.0", digest_of(folder / "3.qup"))
    assert offers.order("0.3").version == "0.3.0"
    with pytest.raises(QedgeError) as error:
        offers.order("0.2.0")
    assert error.value.code == "update.not_offered"


class Broker:
    """What the desk publishes, as a retained topic each."""

    def __init__(self) -> None:
        self.said: list[tuple[str, str]] = []

    async def publish(self, topic: str, payload: bytes) -> None:
        self.said.append((topic.split("/", 5)[-1], str(json.loads(payload)["status"])))


async def test_an_upload_that_a_kill_cuts_off_is_done_by_the_next_run(tmp_path: Path) -> None:
    """A run that is cancelled leaves what a kill leaves: the journal says that the command was begun."""
    where = f"{BASE}/config_snapshot/c1"
    async with file_place() as place:
        broker = Broker()
        fields = {"status": "init", "tedgeUrl": f"{place.base}/te/v1/files/x/c1", "type": "qedge"}
        store = Store(tmp_path / "t.sqlite3", metrics=Metrics(), schema=TELEMETRY_SCHEMA)
        place.go.clear()
        for run in range(2):
            upload = Upload("config_snapshot", "main-qedge", FileTransfer(place.base), content)
            desk = CommandDesk({"config_snapshot": upload}, StoredCommands(store), broker.publish, clock=ManualClock())
            task = asyncio.create_task(desk.run())
            if run == 0:
                await desk.heard(Incoming(where, json.dumps(fields).encode(), 1, False))
            async with asyncio.timeout(10):
                while place.puts <= run or (run and broker.said[-1][1] != "successful"):
                    await asyncio.sleep(0.01)
                    if run:
                        place.go.set()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        store.close()
        assert place.files == {"/te/v1/files/x/c1": b"settings"}
        assert [state for _, state in broker.said] == ["executing", "successful"]


async def test_an_update_goes_on_after_the_updater_has_restarted_the_node(tmp_path: Path) -> None:
    site = make_site(tmp_path)
    layout = site.disk.layout
    layout.offered.mkdir()
    make(tmp_path, site.secret, "0.2.0").rename(layout.offered / "new.qup")
    (layout.slot("a") / "bin").mkdir(exist_ok=True)
    (layout.slot("a") / "bin" / "python").touch()
    fields = updates(version="0.2.0")

    def here(version: str) -> tuple[OfferedUpdate, SoftwareUpdateHere]:
        made = OfferedUpdate(layout, "f", "box", clock=ManualClock(), stopping=lambda: False, version=version)
        return made, SoftwareUpdateHere(made.install_version, 60)

    made, operation = here("0.1.0")
    assert (await made.look()).latest == "0.2.0"
    first = asyncio.create_task(operation.run(command("software_update", fields)))
    async with asyncio.timeout(20):
        while (asked := site.disk.read_request()) is None:
            await asyncio.sleep(0.02)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    site.disk.drop_request()
    # the updater has worked, and the new version starts and finds the command begun
    site.disk.write_report(UpdateReport(asked.id, Outcome.KEPT, "0.2.0", "0.1.0", 1))
    _, operation = here("0.2.0")
    assert await operation.recover(command("software_update", fields)) == {}
    with pytest.raises(QedgeError) as error:
        await operation.run(command("software_update", fields, "c2"))
    assert error.value.code == "update.not_offered"
