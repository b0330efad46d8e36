"""The demo's scene with attached devices: a thousand work, one turns hostile, and is contained by the node itself."""

from __future__ import annotations

import asyncio
import sys
import time
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from qedge.base.with_parent import with_parent
from qedge.cli.demo.scenes import Facts, Narrator, require
from qedge.cli.demo.swarm import SwarmReport

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from qedge.cli.demo.stage import DemoNode, Stage
    from qedge.wire.incidents import IncidentView
    from qedge.wire.node import GatewayView

DEVICES: Final = 1000
RICH: Final = 12
"""Devices with post-quantum keys of their own; the others share 32 bytes with the node."""

_LIMIT_S: Final = 50.0
_CONTAINED_S: Final = 30.0


async def contained(stage: Stage, narrator: Narrator, devices: int = DEVICES) -> Facts:
    """A thousand devices attach and report; one floods, repeats and speaks for others, and is shut out."""
    node, lines = stage.first, stage.home / "devices.txt"
    gateway = await _gateway(node)
    require(bool(gateway.addresses), "the node listens to no devices")
    started = time.monotonic()
    await _import(stage, lines, devices)
    narrator.say(
        f"qedge device import: {devices} devices, {RICH} with ML-DSA keys of their own, the others with a root"
    )
    async with _swarm(gateway.addresses[0], lines) as swarm:
        await swarm.until(lambda report: report.ready == devices, "not all devices got a session")
        attached_s = time.monotonic() - started
        narrator.say(
            f"{(await _gateway(node)).sessions} sealed sessions after {attached_s:.1f} s; policy: "
            f"{gateway.policy_rules} rules, all else is denied"
        )
        said = swarm.report.said
        await swarm.until(lambda report: report.said >= said + devices // 2, "the devices say nothing")
        return await _attack(node, swarm, narrator, f"meter-{devices - 1:04}") | {
            "devices": devices,
            "rich": RICH,
            "sessions": devices,
            "attached_s": round(attached_s, 3),
            "tls": gateway.tls,
        }


async def _attack(node: DemoNode, swarm: _Swarm, narrator: Narrator, hostile: str) -> Facts:
    before = await _gateway(node)
    started = time.monotonic()
    swarm.order(f"attack {hostile}")
    narrator.say(f"{hostile} turns hostile: it floods, repeats its frames, and speaks on the topics of others")
    noticed = await _incident(node, hostile, lambda view: True, "nobody noticed it")
    noticed_s = time.monotonic() - started
    narrator.say(f"noticed after {noticed_s:.2f} s: {noticed.evidence}; {_responses(noticed)}")
    ended = await _incident(node, hostile, lambda view: "quarantine" in _done(view), "it was not quarantined")
    await swarm.until(lambda report: report.hostile_out, "it is still let in")
    contained_s = time.monotonic() - started
    story = await node.client.security.device_story(hostile)
    falls: dict[str, int] = {}
    for row in story.rows:
        falls[row.evidence] = falls.get(row.evidence, 0) + min(0, row.after - row.before)
    reasons = ", ".join(f"{evidence} {points}" for evidence, points in falls.items() if points)
    narrator.say(f"its trust fell from {story.rows[0].before} to {story.trust}: {reasons}")
    narrator.say(
        f"let in no more {contained_s:.2f} s after its first message; incident {ended.id[-6:]} is {ended.state}"
    )
    swarm.order("quiet")
    await swarm.until(lambda report: report.acknowledged == report.said, "readings of other devices were lost")
    report, after = swarm.report, await _gateway(node)
    refused = after.refused - before.refused
    require(refused > 0, f"no message of {hostile} was refused")
    require(report.lost == 0, f"{report.lost} other devices lost their connection")
    require(after.states.get("quarantined") == 1, "other devices were quarantined too")
    require(after.incidents == 1, f"there are {after.incidents} incidents instead of 1")
    audit = await node.client.security.verify_audit()
    require(audit.ok, "the audit log does not verify")
    narrator.say(
        f"the other {report.devices - 1}: {report.said} readings, none lost, nobody disconnected; "
        f"{refused} messages of {hostile} refused; audit log verified"
    )
    return {
        "hostile": hostile,
        "evidence": ended.evidence,
        "responses": " ".join(_done(ended)),
        "noticed_s": round(noticed_s, 3),
        "contained_s": round(contained_s, 3),
        "hostile_messages": report.hostile_sent,
        "hostile_refused": refused,
        "readings": report.said,
        "readings_lost": report.said - report.acknowledged,
        "others_disconnected": report.lost,
        "trust": story.trust,
        "audit_ok": audit.ok,
    }


def _done(view: IncidentView) -> list[str]:
    return list(dict.fromkeys(act.response for act in view.acts if act.outcome == "done"))


def _responses(view: IncidentView) -> str:
    return "the node answers with " + (" and ".join(_done(view)) or "an alarm")


async def _gateway(node: DemoNode) -> GatewayView:
    gateway = (await node.client.status()).gateway
    require(gateway is not None, "the node has no gateway")
    return gateway  # type: ignore[return-value] # `require` does not return otherwise


async def _incident(
    node: DemoNode, hostile: str, condition: Callable[[IncidentView], bool], sentence: str
) -> IncidentView:
    deadline = time.monotonic() + _CONTAINED_S
    while True:
        for view in (await node.client.security.incidents(10)).incidents:
            if view.subject == hostile and condition(view):
                return view
        require(time.monotonic() < deadline, sentence)
        await asyncio.sleep(0.1)


async def _import(stage: Stage, lines: Path, devices: int) -> None:
    """Run `qedge device import` with a list of devices."""
    table = stage.home / "devices.csv"
    tiers = ["rich" if number < RICH else "constrained" for number in range(devices)]
    rows = [f"meter-{number:04},{tier},meter,plant\n" for number, tier in enumerate(tiers)]
    await asyncio.to_thread(table.write_text, "name,tier,class,segment\n" + "".join(rows))
    command = with_parent(
        sys.executable, *("-m", "qedge", "--socket", str(stage.first.socket), "device", "import", str(table))
    )
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, "--out", str(lines), stdout=pipe, stderr=pipe)
    try:
        _, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    require(process.returncode == 0, "`qedge device import` failed: " + errors.decode()[-300:])


class _Swarm:
    """The process with the devices."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.report = SwarmReport(0)

    def order(self, words: str) -> None:
        """Tell the devices something."""
        if self._process.stdin is not None:
            self._process.stdin.write(words.encode() + b"\n")

    async def until(self, condition: Callable[[SwarmReport], bool], sentence: str) -> None:
        """Read reports until one is as wanted."""
        deadline = time.monotonic() + _LIMIT_S
        while True:
            line = await self._process.stdout.readline() if self._process.stdout is not None else b""
            require(bool(line), f"the process of the devices ended: {await self._process.wait() if not line else 0}")
            self.report = msgspec.json.decode(line, type=SwarmReport)
            if condition(self.report):
                return
            require(time.monotonic() < deadline, f"{sentence}: {self.report}")


@asynccontextmanager
async def _swarm(address: str, lines: Path) -> AsyncIterator[_Swarm]:
    host, _, port = address.rpartition(":")
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *with_parent(sys.executable, "-m", "qedge.cli.demo.swarm", host, port, str(lines)), stdin=pipe, stdout=pipe
    )
    try:
        yield _Swarm(process)
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.communicate()
