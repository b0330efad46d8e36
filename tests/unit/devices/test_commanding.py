"""Commands to devices: through policy, answered by the device, and once however often they are asked for."""

from __future__ import annotations

import asyncio

import pytest

from qedge.base.errors import QedgeError
from qedge.devices.segments.commanding import MAX_PENDING
from qedge.devices.segments.fake import FakeKeep
from qedge.devices.segments.model import FOREVER
from qedge.security.model import Action, Subject, SubjectKind
from qedge.wire.segments import CommandAsk, CommandView
from qedge_device.commands import DONE, CommandStatus, pack_done, unpack_command
from tests.unit.devices.segment_site import NODE, Site, segments

APP = Subject("control", SubjectKind.APP, lease_until_ns=FOREVER)


class Valve:
    """An actuator that acts once for each request id, and answers each time."""

    def __init__(self, site: Site, name: str = "valve") -> None:
        site.device(name)
        self.site = site
        self.name = name
        self.acts: list[bytes] = []
        self.seen: set[bytes] = set()
        self.mute = False
        site.downlink.devices[name] = self.hear
        site.judge.permits.add(("control", Action.COMMAND, "open"))

    def hear(self, _command: str, body: bytes) -> None:
        request, argument = unpack_command(body)
        if request not in self.seen:
            self.seen.add(request)
            self.acts.append(argument)
        if not self.mute:
            status = CommandStatus.REFUSED if argument == b"999" else CommandStatus.DONE
            self.site.say(self.name, DONE, pack_done(request, status, "90 %"))


def ask(argument: bytes = b"90", key: str = "", deadline_s: float = 5.0) -> CommandAsk:
    return CommandAsk("valve", "open", argument, key, deadline_s)


async def test_a_command_is_done_and_the_device_says_so() -> None:
    site = Site()
    valve = Valve(site)
    view = await site.desk.command(APP, ask(), client="control")
    assert (view.outcome, view.detail) == ("done", "90 %")
    assert valve.acts == [b"90"]
    refused = await site.desk.command(APP, ask(b"999"), client="control")
    assert refused.outcome == "refused"


async def test_policy_decides_every_command_and_denials_are_heard() -> None:
    site = Site()
    Valve(site)
    stranger = Subject("stranger", SubjectKind.APP, lease_until_ns=FOREVER)
    for by, command in ((stranger, "open"), (None, "open"), (APP, "close"), (APP, "_key")):
        site.judge.permits.add(("control", Action.COMMAND, "_key"))
        with pytest.raises(QedgeError) as refused:
            site.desk.issue(by, "valve", command)
        assert refused.value.code == "command.refused"
    assert len(site.denials) == 4
    assert site.downlink.sent == []


async def test_nothing_goes_to_a_device_that_is_unknown_away_or_quarantined() -> None:
    site = Site()
    Valve(site)
    with pytest.raises(QedgeError) as unknown:
        site.desk.issue(APP, "nobody", "open")
    assert unknown.value.code == "command.no_device"
    site.downlink.away.add("valve")
    with pytest.raises(QedgeError) as away:
        site.desk.issue(APP, "valve", "open")
    site.downlink.away.clear()
    site.subjects.known[SubjectKind.DEVICE, "valve"].quarantined = True
    with pytest.raises(QedgeError) as contained:
        site.desk.issue(APP, "valve", "open")
    assert away.value.code == contained.value.code == "command.unreachable"
    assert site.downlink.sent == []


async def test_the_same_key_is_the_same_command_also_after_a_restart() -> None:
    keep = FakeKeep()
    site = Site(keep=keep)
    valve = Valve(site)
    first, second = await asyncio.gather(*(site.desk.command(APP, ask(key="k"), client="c") for _ in range(2)))
    assert first.request == second.request
    assert valve.acts == [b"90"]
    again = Site(keep=keep)
    other = Valve(again)
    view = await again.desk.command(APP, ask(key="k"), client="c")
    assert (view.outcome, view.repeated, view.request) == ("done", True, first.request)
    assert other.acts == []
    with pytest.raises(QedgeError) as conflict:
        await again.desk.command(APP, ask(b"10", key="k"), client="c")
    assert conflict.value.code == "command.conflict"
    elsewhere = await again.desk.command(APP, ask(key="k"), client="another")
    assert not elsewhere.repeated


async def test_a_command_whose_answer_was_lost_goes_out_again_under_its_id_and_is_done_once() -> None:
    keep = FakeKeep()
    site = Site(keep=keep)
    valve = Valve(site)
    valve.mute = True
    view = await site.desk.command(APP, ask(key="k", deadline_s=0.02), client="c")
    assert view.outcome == "unknown"
    valve.mute = False
    again = await site.desk.command(APP, ask(key="k"), client="c")
    assert (again.outcome, again.request) == ("done", view.request)
    assert valve.acts == [b"90"]


async def test_answers_to_nothing_and_answers_of_others_have_no_effect() -> None:
    site = Site()
    valve = Valve(site)
    valve.mute = True
    thief = site.device("thief")
    pending = site.desk.issue(APP, "valve", "open", b"1")
    site.say(thief.name, DONE, pack_done(pending.request, CommandStatus.DONE))
    site.say("valve", DONE, pack_done(bytes(8), CommandStatus.DONE))
    for bad in (b"", b"short", bytes(8), bytes(8) + b"\x09"):
        site.say("valve", DONE, bad)
    assert not pending.answer.done()
    site.say("valve", DONE, pack_done(pending.request, CommandStatus.FAILED, "stuck"))
    assert pending.answer.result() == (CommandStatus.FAILED, "stuck")


async def test_commands_that_nobody_answers_are_bounded() -> None:
    site = Site()
    Valve(site).mute = True
    for _ in range(MAX_PENDING + 100):
        site.desk.issue(APP, "valve", "open")
    assert len(site.desk._pending) == MAX_PENDING


async def test_a_peer_commands_through_the_policy_of_the_devices_node() -> None:
    network: dict[str, object] = {}
    site = Site(network)  # type: ignore[arg-type]  # filled by the site itself
    async with segments(site):
        valve = Valve(site)
        peer = site.visitor._peers
        with pytest.raises(QedgeError) as refused:
            await peer.call(NODE, ask(), CommandView, deadline_s=5)
        assert refused.value.code == "command.refused"
        site.subjects.known[SubjectKind.PEER, "box-2"] = Subject("box-2", SubjectKind.PEER, lease_until_ns=FOREVER)
        site.judge.permits.add(("box-2", Action.COMMAND, "open"))
        view = await peer.call(NODE, ask(), CommandView, deadline_s=5)
        assert view.outcome == "done"
        assert valve.acts == [b"90"]
