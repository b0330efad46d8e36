"""Attacks on the gateway as a whole, one test each, under the number they have in the docs."""

from __future__ import annotations

import time
from pathlib import Path

import aiohttp
import pytest

from qedge.base.errors import QedgeError
from qedge.cli.main import main
from qedge.devices.enforcement import Enforcement, Outcome
from qedge.devices.fake import FakeWitness
from qedge.devices.model import DeviceState
from qedge.security.model import Action, Subject, SubjectKind
from qedge.security.policy.engine import PolicyEngine
from qedge.wire.gateway import DeviceBatch, DeviceDraft, DeviceReason
from qedge.wire.segments import CommandAsk, CommandView
from qedge_device import FrameError
from qedge_device.commands import unpack_command
from tests.house.source_tree import imports, modules
from tests.integration.web_site import serving
from tests.unit.devices.device_site import METER, Site, site
from tests.unit.devices.segment_site import NODE, segments
from tests.unit.devices.segment_site import Site as SegmentSite
from tests.unit.devices.test_commanding import APP, Valve, ask

QKD_ONLY = """version = 1
[segments.hall]
channels = ["t"]
[rules.meters]
effect = "permit"
subjects = { kinds = ["device"] }
actions = ["publish"]
resources = { segments = ["hall"], channels = ["t"] }
when = { qkd = true }
"""


def enforcement(here: Site, text: str = QKD_ONLY) -> Enforcement:
    """Put an enforcement point over the devices of a site."""
    engine = PolicyEngine()
    engine.load(text.encode())
    return Enforcement(here.devices.sessions, engine, consumers=[], witness=FakeWitness(), metrics=here.metrics)


def outcome(here: Site, point: Enforcement, device: str, topic: str, frame: bytes) -> Outcome:
    return Outcome(point.up(device, topic, frame, here.clock.now_ns(), here.clock.utc_ns()))


# A05: algorithms that are broken or were never standardised


@pytest.mark.parametrize(
    ("name", "instead"),
    [("sike", "ml-kem-768"), ("newhope", "ml-kem-768"), ("kyber768", "ml-kem-768"), ("dilithium3", "ml-dsa")],
)
def test_a05_a_configuration_that_names_a_refused_algorithm_does_not_pass_the_check(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, instead: str
) -> None:
    key = "signatures" if instead == "ml-dsa" else "key_exchange"
    path = tmp_path / "agent.toml"
    path.write_text(f'[crypto]\n{key} = ["{name}"]\n[devices]\nenabled = true\n')
    assert main(["check", str(path)]) != 0
    said = "".join(capsys.readouterr())
    assert name in said
    assert instead in said


# A23: the key store is starved so that devices fall back


async def test_a23_a_session_without_the_quantum_key_is_seen_as_such_and_a_rule_that_wants_one_denies_it(
    tmp_path: Path,
) -> None:
    async with site(tmp_path) as here:
        device = await here.enrolled()
        point = enforcement(here)
        here.keys.keys["k1"] = bytes(range(32))
        device.use_extra_key("k1", bytes(range(32)))
        await here.talk(device)
        frame = device.seal("t", b"1", here.now_s())
        assert outcome(here, point, "meter-1", device.up_topic, frame) is Outcome.TAKEN
        device.use_extra_key("k2", bytes(32))  # the store has no more
        device.end_session()
        with pytest.raises(QedgeError) as starved:
            await here.talk(device)
        assert starved.value.code == "device.no_key"  # and not a session without it
        device.use_extra_key("", b"")
        await here.talk(device)
        frame = device.seal("t", b"2", here.now_s())
        assert outcome(here, point, "meter-1", device.up_topic, frame) is Outcome.DENIED
        assert not here.devices.registry.require("meter-1").subject.qkd_backed


# A27: a full disk


async def test_a27_on_a_full_disk_nobody_is_let_in_and_whoever_is_revoked_stays_out(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        await here.opened()
        late = await here.invited("late")
        here.store._disk_full = True  # as after a write that found no room
        regain, here.store._regain = here.store._regain, lambda: False  # type: ignore[method-assign]
        with pytest.raises(QedgeError) as full:
            await here.talk(late)
        assert full.value.code == "store.disk_full"
        with pytest.raises(QedgeError):
            await here.invited("another")
        view = await here.devices.desk.revoke("meter-1", DeviceReason("stolen"))
        assert view.state == "revoked"
        here.store._regain = regain  # type: ignore[method-assign]
    async with site(tmp_path, world=here.world, identity=here.devices.authority.identity) as here:
        assert here.devices.registry.require("meter-1").state is DeviceState.REVOKED
        assert here.devices.registry.get("another") is None


# A35: commands that nobody gave, or that come again


async def test_a35_a_command_that_the_broker_repeats_or_alters_is_not_done_twice(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        device = await here.opened()
        session = here.devices.sessions.current("meter-1")
        assert session is not None
        frame = session.sealer.seal(b"\x04open" + bytes(8), session.down_topic)
        assert device.open(frame)[0] == "open"
        for forged in (frame, frame[:-1] + bytes([frame[-1] ^ 1]), b"\x01" + frame[1:]):
            with pytest.raises(FrameError):
                device.open(forged)


async def test_a35_the_same_key_of_a_command_is_done_once_and_another_client_has_keys_of_its_own() -> None:
    here = SegmentSite()
    valve = Valve(here)
    for _ in range(3):
        await here.desk.command(APP, ask(key="shift-7"), client="uid:1000")
    assert valve.acts == [b"90"]
    await here.desk.command(APP, ask(key="shift-7"), client="uid:1001")
    assert valve.acts == [b"90", b"90"]


async def test_a35_a_peer_commands_nothing_without_a_rule_nor_while_its_list_of_revoked_devices_is_withheld() -> None:
    async with segments(SegmentSite({})) as here:
        valve = Valve(here)
        peer = here.visitor._peers
        here.subjects.known[SubjectKind.PEER, "box-2"] = Subject("box-2", SubjectKind.PEER, lease_until_ns=2**62)
        wanted = CommandAsk("valve", "open", b"90")
        with pytest.raises(QedgeError) as refused:
            await peer.call(NODE, wanted, CommandView, deadline_s=5)
        assert refused.value.code == "command.refused"
        assert ("box-2", Action.COMMAND, "open") in here.denials
        here.judge.permits.add(("box-2", Action.COMMAND, "open"))

        def stale(node: str) -> None:
            raise QedgeError("device.stale_revocations", f"The list of {node} is too old.")

        here.host._check_asker, before = stale, here.host._check_asker
        with pytest.raises(QedgeError) as closed:
            await peer.call(NODE, wanted, CommandView, deadline_s=5)
        assert closed.value.code == "device.stale_revocations"
        assert valve.acts == []
        here.host._check_asker = before
        assert (await peer.call(NODE, wanted, CommandView, deadline_s=5)).outcome == "done"
        assert unpack_command(here.downlink.sent[-1][2])[1] == b"90"


# A41: a burst of verdicts


async def test_a41_a_thousand_verdicts_at_once_are_in_force_one_by_one_and_wait_for_no_broker(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        names = [f"tag-{number}" for number in range(1000)]
        for start in range(0, 1000, 200):
            drafts = tuple(DeviceDraft(name, "constrained", METER) for name in names[start : start + 200])
            await here.devices.desk.add_batch(DeviceBatch(drafts))
        last = await here.constrained("last")
        point = enforcement(here, QKD_ONLY.replace("when = { qkd = true }", ""))
        frames = [last.seal("t", b"1") for _ in range(2)]
        assert outcome(here, point, "last", last.up_topic, frames[0]) is Outcome.TAKEN
        spent_s = time.thread_time()
        for name in [*names, "last"]:
            here.devices.administrator.quarantine(name, "flooding")
            assert here.devices.registry.require(name).subject.quarantined
        spent_s = time.thread_time() - spent_s
        assert outcome(here, point, "last", last.up_topic, frames[1]) is not Outcome.TAKEN
        assert here.way.cuts == [*names, "last"]  # each cut in its own call
        assert here.way.sent == []
        assert spent_s < 5  # of the processor: no one of them looks at all the others


# A42: bytes that run


def test_a42_nothing_here_unpickles_or_evaluates_what_it_was_sent() -> None:
    forbidden = {"pickle", "cPickle", "marshal", "shelve", "dill", "cloudpickle", "jsonpickle", "yaml"}
    found = [
        f"{module.file}:{line}"
        for module in modules()
        for line, name in imports(module)
        if name.partition(".")[0] in forbidden
    ]
    assert found == []


# A43: the interface of the operator


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/apps/operator/segments/plant/readings"),
        ("POST", "/v1/apps/operator/devices/valve-1/commands"),
        ("POST", "/v1/devices/valve-1/commands"),
        ("POST", "/v1/devices"),
        ("GET", "/v1/segments"),
    ],
)
async def test_a43_nothing_of_devices_is_offered_over_tcp_nor_to_another_site(
    tmp_path: Path, method: str, path: str
) -> None:
    async with serving(tmp_path) as here, aiohttp.ClientSession() as session:
        async with session.request(method, here.url + path) as answer:
            assert answer.status in (401, 403)
        hostile = {"Host": "evil.example", "Origin": "http://evil.example"}
        async with session.request(method, here.url + path, headers=hostile) as answer:
            assert answer.status == 403
        assert here.node.segments.commands == []
        assert here.node.segments.followed == []
