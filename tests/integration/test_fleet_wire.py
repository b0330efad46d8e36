"""What other languages are told of commands on the wire is what goes over it, and the example without qedge does it."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pytest

from qedge.crypto.keys import SigningKey
from qedge.crypto.operators import pack_order, verify_request
from qedge.crypto.signed import join_signed, open_signed
from qedge.crypto.trust import Trust
from qedge.wire.command_kinds import DrainCommand
from qedge.wire.commands import CommandOrder, CommandReport, CommandRequest, OperatorRole, command_topic, state_topic
from qedge.wire.envelope import Header, SealKind, cover, decode, purpose_of
from qedge.wire.trust import Anchor
from tests.integration.bus_site import MOSQUITTO
from tests.integration.fleet_of_fakes import FakeFleet, open_broker
from tests.integration.fleet_site import ThrowAwayFleet

pytestmark = pytest.mark.integration

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "fleet" / "send_command.py"
VECTOR = json.loads((ROOT / "tests" / "vectors" / "fleet-command.json").read_text())
OPERATOR = VECTOR["operator"]
CHAIN = tuple(bytes.fromhex(each) for each in OPERATOR["chain"])
TRUST = Trust(Anchor("home", bytes.fromhex(VECTOR["root"])), "home")
UTC_NS = 1_800_000_000_000_000_000 + 60 * 10**9


def request_of_vector() -> CommandRequest:
    fields = {**VECTOR["request"], "arguments": bytes.fromhex(VECTOR["request"]["arguments"])}
    return msgspec.convert({"type": "command-request/1", **fields}, CommandRequest)


def covered_of_vector() -> bytes:
    request = request_of_vector()
    header = Header(
        command_topic("home", "alpha", request.id),
        "ann",
        request.serial,
        purpose_of(CommandRequest),
        request.issued_utc_ns,
        request.expires_utc_ns,
    )
    return cover(SealKind.SIGNED, header, msgspec.msgpack.encode(request))


def example() -> ModuleType:
    pytest.importorskip("msgpack")
    spec = importlib.util.spec_from_file_location("send_command", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["send_command"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_the_worked_example_is_a_request_that_nodes_believe() -> None:
    signed = join_signed(covered_of_vector(), CHAIN, bytes.fromhex(VECTOR["signature"]))
    where = command_topic("home", "alpha", VECTOR["request"]["id"])
    request, member = verify_request(signed, where, TRUST, UTC_NS)
    assert (member.subject.name, member.roles) == ("ann", frozenset({OperatorRole.OPERATOR}))
    assert msgspec.msgpack.decode(request.arguments, type=DrainCommand) == DrainCommand(undo=True)
    key = SigningKey.from_seed(OPERATOR["algorithm"], bytes.fromhex(OPERATOR["seed"]))
    assert key.key_id == member.key_id


def test_the_page_shows_these_bytes_and_no_others() -> None:
    page = (ROOT / "docs" / "reference" / "fleet-wire.md").read_text()
    shown = [bytes.fromhex(block) for block in re.findall(r"```text\n([0-9a-f \n]+)```", page)]
    arguments, prefix, header, body, seal, signature = shown
    assert prefix + header + body == covered_of_vector()
    assert arguments in body
    assert msgspec.msgpack.encode([CHAIN, bytes.fromhex(VECTOR["signature"])])[:32] == seal
    assert bytes.fromhex(VECTOR["signature"])[:32] == signature


def test_a_program_without_qedge_writes_the_same_bytes_and_reads_a_report() -> None:
    module = example()
    key = module.PRIVATE_KEYS[OPERATOR["algorithm"]].from_seed_bytes(bytes.fromhex(OPERATOR["seed"]))
    operator = module.Operator("home", "ann", key, list(CHAIN), bytes.fromhex(VECTOR["root"]))
    fields: dict[str, Any] = {**VECTOR["request"], "arguments": bytes.fromhex(VECTOR["request"]["arguments"])}
    data = module.make_order(operator, fields)
    where = command_topic("home", "alpha", fields["id"])
    _, order = decode(data, where, CommandOrder, UTC_NS)
    assert order.signed.startswith(covered_of_vector())
    assert verify_request(order.signed, where, TRUST, UTC_NS)[0] == request_of_vector()
    assert data == pack_order(order)
    report = bytes.fromhex(VECTOR["report"])
    place = state_topic("home", "alpha", fields["id"])
    ours = open_signed(report, place, CommandReport, TRUST, UTC_NS)[1]
    theirs = module.read_report(operator, place, "alpha", report)
    assert msgspec.convert(theirs, CommandReport) == ours
    for wrong in (report[:-1] + bytes((report[-1] ^ 1,)), report.replace(b"successful", b"failed----")):
        with pytest.raises(Exception, match=r".*"):
            module.read_report(operator, place, "alpha", wrong)


@pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")
async def test_the_example_commands_a_node_at_a_broker(tmp_path: Path) -> None:
    pytest.importorskip("msgpack")
    with open_broker(tmp_path) as port:
        fleet = FakeFleet(ThrowAwayFleet("home"), port)
        node = fleet.add("alpha")
        folder = fleet.operator(tmp_path / "ann")
        async with fleet:
            words = ["--broker", f"127.0.0.1:{port}", "--operator", str(folder / "ann.operator")]
            words += ["--passphrase-file", str(folder / "passphrase")]
            words += ["alpha", "drain", '{"type": "drain-command/1", "undo": true}']
            process = await asyncio.create_subprocess_exec(
                sys.executable, str(EXAMPLE), *words, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
            )
            out, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, err.decode()
    assert out.decode().split() == ["init", "executing", "successful"]
    (request,) = node.requests
    assert msgspec.msgpack.decode(request.arguments, type=DrainCommand) == DrainCommand(undo=True)
