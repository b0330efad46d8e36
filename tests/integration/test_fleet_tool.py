"""The fleet tool at a real broker, with nodes that are their words alone, and at the command line."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

import msgspec
import pytest

from qedge.base.errors import QedgeError
from qedge.base.ids import uuid7
from qedge.base.log import LogConfig, configure
from qedge.base.system_clock import SystemClock
from qedge.bus.config import BusConfig
from qedge.cli.main import main
from qedge.client.fleet_tool.model import Ending, NodeStanding
from qedge.client.fleet_tool.operator_folder import OperatorFolder
from qedge.client.fleet_tool.rollout_file import RolloutFile
from qedge.client.fleet_tool.rollout_plan import Asked, Order, RolloutPlan, cut_waves
from qedge.client.fleet_tool.rollout_run import RolloutRun
from qedge.client.fleet_tool.standing import digest_of
from qedge.client.fleet_tool.tool import FleetTool
from qedge.client.fleet_tool.trail import Act
from qedge.crypto.operator_files import read_operator
from qedge.crypto.operators import pack_order
from qedge.wire.commands import Approval, CommandOrder, CommandRequest, OperatorRole, command_topic
from qedge.wire.envelope import Header, encode, purpose_of
from qedge.wire.mesh import Lost
from qedge.wire.topics import Channel, topic
from tests.integration.bus_site import MOSQUITTO, until
from tests.integration.fleet_of_fakes import PASSPHRASE, FakeFleet, FakeNode, open_broker, succeed
from tests.integration.fleet_site import ThrowAwayFleet

pytestmark = [
    pytest.mark.timeout(60),
    pytest.mark.integration,
    pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed"),
]


@pytest.fixture(autouse=True)
def _quiet() -> None:
    """Keep what the other nodes of this process log from what a command prints."""
    configure(LogConfig(level="error"))


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[FakeFleet]:
    with open_broker(tmp_path) as port:
        yield FakeFleet(ThrowAwayFleet("home"), port)


@pytest.fixture
async def three(fleet: FakeFleet) -> AsyncIterator[FakeFleet]:
    fleet.add("alpha", "1.0.0", ["edge", "site=graz"])
    fleet.add("beta", "1.1.0", ["edge"])
    fleet.add("gamma", "1.1.0")
    async with fleet:
        yield fleet


def tool_of(fleet: FakeFleet, folder: Path, name: str = "ann") -> FleetTool:
    if not folder.exists():
        fleet.operator(folder, name)
    return FleetTool(
        OperatorFolder(folder),
        read_operator(OperatorFolder(folder).key_path(), PASSPHRASE),
        BusConfig(url=fleet.url, session_expiry_s=0),
        clock=SystemClock(),
        random_bytes=os.urandom,
        uniform=random.random,
    )


async def test_the_inventory_has_what_nodes_signed_and_nothing_else(three: FakeFleet, tmp_path: Path) -> None:
    impostor = FakeFleet(ThrowAwayFleet("home"), three.port).add("delta")
    await three.introduce(impostor)
    async with tool_of(three, tmp_path / "ann") as tool:
        nodes = await tool.nodes()
        assert [(node.name, node.version, node.labels) for node in nodes] == [
            ("alpha", "1.0.0", ("edge", "site=graz")),
            ("beta", "1.1.0", ("edge",)),
            ("gamma", "1.1.0", ()),
        ]
        assert nodes[0].kinds == ("cancel", "drain", "update", "update-rollback")
        where = topic("home", "beta", Channel.LOST)
        header = Header(where, "beta", 1, purpose_of(Lost), time.time_ns())
        await three.bus.publish(where, encode(header, Lost(1, b"")), qos=1)
        inventory = tool.connection.inventory
        await until(lambda: (node := inventory.node("beta")) is not None and node.state is NodeStanding.LOST)


async def test_a_command_is_sent_watched_cleared_and_told_in_the_trail(three: FakeFleet, tmp_path: Path) -> None:
    three.nodes["beta"].script = lambda *_: [("executing", ""), ("failed", "no room")]
    async with tool_of(three, tmp_path / "ann") as tool:
        await tool.send(Order("drain", b"\x80"), ["alpha", "beta"], note="for the move")
        views = {view.node: view async for view in tool.watch() if view.ended}
        assert {name: (view.ending, view.reason) for name, view in views.items()} == {
            "alpha": (Ending.SUCCESSFUL, ""),
            "beta": (Ending.FAILED, "no room"),
        }
        assert len(await tool.standing_ids()) == 2
        assert await tool.clear(views.values()) == 2
    async with tool_of(three, tmp_path / "ann") as tool:
        assert await tool.standing_ids() == frozenset()
        assert tool.unfinished() == []
    lines, fault = OperatorFolder(tmp_path / "ann").trail()
    assert not fault
    assert [(line.entry.act, line.entry.node) for line in lines[:2]] == [(Act.SENT, "alpha"), (Act.SENT, "beta")]
    assert {(line.entry.node, line.entry.outcome) for line in lines[2:]} == {
        ("alpha", "successful"),
        ("beta", "failed"),
    }
    (request,) = three.nodes["alpha"].requests
    assert request.node_key == three.nodes["alpha"].key.key_id
    assert (request.kind, request.arguments, request.note) == ("drain", b"\x80", "for the move")


async def test_a_request_waits_with_the_broker_for_a_node_that_is_away(fleet: FakeFleet, tmp_path: Path) -> None:
    fleet.add("alpha")
    async with tool_of(fleet, tmp_path / "ann") as tool:
        await tool.send(Order("drain"), ["alpha"])
    async with tool_of(fleet, tmp_path / "ann") as tool:
        (request,) = tool.unfinished()
        assert tool.follow(request, "ann").ending is Ending.WAITING
        async with fleet:
            (view,) = [view async for view in tool.watch() if view.ended]
        assert view.ending is Ending.SUCCESSFUL


async def test_a_second_person_approves_and_nobody_approves_the_own_request(three: FakeFleet, tmp_path: Path) -> None:
    three.nodes["alpha"].script = lambda *_: [("init", "")]
    async with tool_of(three, tmp_path / "ann") as ann, tool_of(three, tmp_path / "bob", "bob") as bob:
        (sent,) = await ann.send(Order("wipe"), ["alpha"])
        with pytest.raises(QedgeError) as caught:
            await ann.approve("alpha", sent.id)
        assert caught.value.code == "client.usage"
        assert (await bob.approve("alpha", sent.id)).kind == "wipe"
        await until(lambda: three.nodes["alpha"].approvers == ["bob"])
        with pytest.raises(QedgeError) as caught:
            await bob.approve("beta", sent.id)
        assert caught.value.code == "fleet.no_command"


async def test_approvals_that_anybody_put_there_do_not_keep_out_the_good_one_and_one_may_ask_again(
    three: FakeFleet, tmp_path: Path
) -> None:
    three.nodes["alpha"].script = lambda *_: [("init", "")]
    async with tool_of(three, tmp_path / "ann") as ann, tool_of(three, tmp_path / "bob", "bob") as bob:
        (sent,) = await ann.send(Order("wipe"), ["alpha"])
        ((request, order),) = await bob.standing("alpha")
        rubbish = tuple(Approval(f"x{number}", (b"y",), b"z") for number in range(4))
        where = command_topic("home", "alpha", sent.id)
        await three.bus.publish(where, pack_order(CommandOrder(order.signed, rubbish)), qos=1, retain=True)
        assert (await bob.approve("alpha", sent.id)).id == request.id
        await until(lambda: three.nodes["alpha"].approvers == ["bob"])
        assert (await bob.approve("alpha", sent.id, digest=digest_of(order)[:16])).id == request.id
        # its author puts another one in its place after it was looked at
        (other,) = ann.make_requests(Order("wipe", b"other"), ["alpha"], expires_s=60)
        await ann.publish([msgspec.structs.replace(other, id=sent.id)])
        with pytest.raises(QedgeError) as caught:
            await bob.approve("alpha", sent.id, digest=digest_of(order))
        assert caught.value.code == "fleet.no_command"
        for _ in range(2):
            assert await bob.standing_ids() == frozenset({sent.id})


async def test_what_no_operator_signed_is_not_shown_as_a_request(three: FakeFleet, tmp_path: Path) -> None:
    await three.bus.publish(
        command_topic("home", "alpha", "00000000-0000-7000-8000-000000000001"), b"rubbish", qos=1, retain=True
    )
    async with tool_of(three, tmp_path / "ann") as tool:
        assert await tool.standing() == []


async def test_a_broker_that_is_not_there_is_told_with_what_to_check(tmp_path: Path) -> None:
    fleet = FakeFleet(ThrowAwayFleet("home"), 9)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("qedge.client.fleet_tool.connection.CONNECT_LIMIT_S", 0.5)
        with pytest.raises(QedgeError) as caught:
            async with tool_of(fleet, tmp_path / "ann"):
                pass
    assert caught.value.code == "bus.unavailable"
    assert "broker.toml" in caught.value.fix


def call(folder: Path, *words: str) -> int:
    extra = [] if words[0] == "audit" or words[1:2] in (("list",), ("show",)) else ["--passphrase-file"]
    extra += [str(folder / "passphrase")] if extra else []
    return main(["fleet", *words, "--operator-folder", str(folder), *extra])


async def test_the_command_line_shows_sends_watches_and_audits(
    three: FakeFleet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ann = three.operator(tmp_path / "ann")

    async def invoke(*words: str) -> tuple[int, str]:
        code = await asyncio.to_thread(call, ann, *words)
        return code, capsys.readouterr().out

    code, out = await invoke("inventory", "--to", "label=edge")
    assert code == 0
    assert out.splitlines()[1].split()[:3] == ["alpha", "up", "1.0.0"]
    assert "2 nodes, 2 up" in out
    code, out = await invoke("send", "drain", "undo=true", "--to", "version>=1.1", "--json")
    assert code == 0
    assert {(each["node"], each["ending"]) for each in json.loads(out)["commands"]} == {
        ("beta", "successful"),
        ("gamma", "successful"),
    }
    three.nodes["beta"].script = lambda *_: [("failed", "no room")]
    code, out = await invoke("send", "drain", "--to", "all")
    assert code == 1
    assert "no room" in out
    code, out = await invoke("send", "dance", "--node", "alpha")
    assert code == 64
    code, out = await invoke("send", "drain", "--to", "label=nothing")
    assert code == 64
    three.nodes["alpha"].script = lambda *_: [("init", "")]
    code, out = await invoke("send", "drain", "--node", "alpha", "--wait", "0.5")
    assert code == 75
    code, out = await invoke("pending", "--json")
    (pending,) = json.loads(out)["requests"]
    assert (pending["node"], pending["operator"]) == ("alpha", "ann")
    code, out = await invoke("cancel", "alpha", pending["id"], "--wait", "0.5")
    assert code == 75
    assert [each.kind for each in three.nodes["alpha"].requests][-1] == "cancel"
    code, out = await invoke("audit", "--json")
    assert code == 0
    told = json.loads(out)
    assert told["whole"]
    trail = ann / "audit.jsonl"
    trail.write_bytes(trail.read_bytes().replace(b"beta", b"bota", 1))
    code, out = await invoke("audit")
    assert code == 65


def update(version: str, *, good: bool = True) -> object:
    """Make a script that updates a node, which comes back with a new birth."""

    def script(node: FakeNode, request: CommandRequest) -> Sequence[tuple[str, str]]:
        if request.kind == "update-rollback":
            node.version = "1.0.0"
        elif good:
            node.version = version
            node.epoch += 1
        return succeed(node, request)

    return script


async def test_a_roll_out_of_a_version_that_does_not_start_stops_in_its_first_wave_and_is_undone(
    fleet: FakeFleet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(8):
        node = fleet.add(f"n{number}", "1.0.0", ["edge"])
        node.script = update("2.0.0", good=False)  # type: ignore[assignment] # a script
    ann = fleet.operator(tmp_path / "ann")
    async with fleet:
        words = ["rollout", "start", "update", "--to", "label=edge", "--waves", "2,100%", "--soak", "0.6"]
        words += ["--expect-version", "2.0.0", "--undo", "update-rollback", "--json"]
        code = await asyncio.to_thread(call, ann, *words)
        assert code == 1
        views = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert (views[-1]["phase"], views[-1]["reached"]) == ("stopped", 2)
        assert views[-1]["waves"][0]["steps"] == {"undone": 2}
        asked = {name for name, node in fleet.nodes.items() if node.requests}
        assert asked == {"n0", "n1"}
        assert [each.kind for each in fleet.nodes["n0"].requests] == ["update", "update-rollback"]
        told = [(line.entry.act, line.entry.outcome) for line in OperatorFolder(ann).trail()[0]]
        assert told.count((Act.SENT, "")) == told.count((Act.ENDED, "successful")) == 4
        assert told[-1] == (Act.ROLLOUT_ENDED, "stopped")
        assert await asyncio.to_thread(call, ann, "rollout", "list") == 0
        assert "stopped" in capsys.readouterr().out


async def test_a_roll_out_goes_on_after_its_tool_was_killed_and_no_node_is_asked_twice(
    fleet: FakeFleet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(6):
        fleet.add(f"n{number}")
    ann = fleet.operator(tmp_path / "ann")
    hold = True
    done: list[str] = []

    def script(node: FakeNode, request: CommandRequest) -> Sequence[tuple[str, str]]:
        done.append(node.name)
        return [("init", ""), ("executing", "")] if hold and node.name == "n3" else succeed(node, request)

    for node in fleet.nodes.values():
        node.script = script
    async with fleet:
        words = ["rollout", "start", "update", "--to", "all", "--waves", "2,4,100%", "--soak", "0.3"]
        words += ["--operator-folder", str(ann), "--passphrase-file", str(ann / "passphrase")]
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "qedge", "fleet", *words, stderr=asyncio.subprocess.DEVNULL
        )
        await until(lambda: "n3" in done, 60)
        process.send_signal(signal.SIGKILL)
        await process.wait()
        (rollout,) = OperatorFolder(ann).rollouts()
        hold = False
        (request,) = fleet.nodes["n3"].requests
        await fleet.report(fleet.nodes["n3"], request, "successful")
        assert await asyncio.to_thread(call, ann, "rollout", "resume", rollout) == 0
        assert "done" in capsys.readouterr().out
    assert sorted(done) == [f"n{number}" for number in range(6)]


@pytest.mark.parametrize("sent", [False, True])
async def test_what_was_written_down_and_not_sent_is_sent_under_the_same_id_and_nothing_else(
    fleet: FakeFleet, tmp_path: Path, sent: bool
) -> None:
    for name in ("n0", "n1"):
        fleet.add(name)
    utc_ns = time.time_ns()
    rollout_id, command_id = uuid7(utc_ns, os.urandom), uuid7(utc_ns, os.urandom)
    plan = RolloutPlan(rollout_id, "home", "ann", Order("update"), cut_waves(("n0", "n1"), "1,2"), utc_ns, soak_s=0.2)
    async with fleet, tool_of(fleet, tmp_path / "ann") as tool:
        file = RolloutFile.create(tool.folder.rollout_path(rollout_id), plan)
        request = CommandRequest(command_id, "home", "n0", "update", 5, utc_ns, utc_ns + 600 * 10**9)
        file.take([Asked(utc_ns, "n0", command_id, 5, request.expires_utc_ns)])
        file.close()
        if sent:
            await tool.publish([request])
            await until(lambda: fleet.nodes["n0"].requests)
        file = RolloutFile.open(tool.folder.rollout_path(rollout_id))
        views = [view async for view in RolloutRun(tool, file).run()]
        file.close()
    assert views[-1].phase == "done"
    assert [each.id for each in fleet.nodes["n0"].requests] == [command_id]
    assert len(fleet.nodes["n1"].requests) == 1
    sends = [line.entry.command for line in OperatorFolder(tmp_path / "ann").trail()[0] if line.entry.act is Act.SENT]
    assert sends.count(command_id) == 1


async def test_a_roll_out_is_paused_resumed_and_aborted_from_another_terminal(
    fleet: FakeFleet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(4):
        fleet.add(f"n{number}")
    ann = fleet.operator(tmp_path / "ann", "ann", OperatorRole.OPERATOR)
    async with fleet:
        words = ("rollout", "start", "update", "--to", "all", "--first", "n2", "--waves", "1,100%", "--soak", "1")
        running = asyncio.create_task(asyncio.to_thread(call, ann, *words))
        await until(lambda: fleet.nodes["n2"].requests, 60)
        (rollout,) = OperatorFolder(ann).rollouts()
        assert await asyncio.to_thread(call, ann, "rollout", "pause", rollout) == 0
        await asyncio.sleep(1.5)
        assert not fleet.nodes["n0"].requests
        assert await asyncio.to_thread(call, ann, "rollout", "abort", rollout) == 0
        assert await running == 1
        assert await asyncio.to_thread(call, ann, "rollout", "show", rollout) == 0
        assert "aborted: ann said so" in capsys.readouterr().out
        assert not fleet.nodes["n0"].requests
