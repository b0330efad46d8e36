"""The life of commands: taken, kept, told, carried out once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from qedge.base.errors import QedgeError
from qedge.crypto.operators import sign_request
from qedge.fleet.commands.config import CommandsConfig
from qedge.fleet.commands.ports import AfterCrash, Recovered
from qedge.wire.commands import OperatorRole, command_topic, state_topic
from tests.unit.fleet.command_site import FLEET, NODE, Answer, CommandSite, ScriptedExecutor


@pytest.fixture
def work() -> ScriptedExecutor:
    return ScriptedExecutor()


@pytest.fixture
async def site(tmp_path: Path, work: ScriptedExecutor, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[CommandSite]:
    monkeypatch.setattr("qedge.fleet.commands.service._SWEEP_S", 0.2)
    others = (ScriptedExecutor("other", "other"), ScriptedExecutor("trust", "trust", role=OperatorRole.SECURITY))
    config = CommandsConfig(synchronised_clock=False, two_persons=("trust",))
    made = CommandSite(tmp_path, work, *others, config=config)
    await made.start()
    yield made
    await made.kill()


async def test_a_command_is_told_before_it_begins_and_when_it_ended(site: CommandSite, work: ScriptedExecutor) -> None:
    command = site.send()
    report = await site.end(command)
    assert report.state == "successful"
    assert msgspec.msgpack.decode(report.result, type=Answer) == Answer()
    told = [(each.state, each.step) for each in site.all_told(command)]
    assert ("executing", "") in told
    assert [state for state, _ in told] == sorted(
        (state for state, _ in told), key=["init", "executing", "successful"].index
    )
    assert work.done == [command]
    assert ("work", "accepted", "signed") in site.acts.rows
    assert ("work", "successful", "carried out") in site.acts.rows


async def test_a_request_that_comes_again_is_told_again_and_done_once(
    site: CommandSite, work: ScriptedExecutor
) -> None:
    request = site.request()
    payload = site.order(request)
    site.publish(request, payload)
    await site.end(request.id)
    told = len(site.all_told(request.id))
    site.publish(request, payload)
    await site.broker.restart()
    site.publish(request, payload)
    await site.quiet()
    assert len(site.all_told(request.id)) > told
    assert work.done == [request.id]


async def test_an_empty_request_cancels_nothing(site: CommandSite, work: ScriptedExecutor) -> None:
    work.gate.clear()
    command = site.send()
    await site.until(command, lambda report: report.step == "half")
    site.broker.publish(command_topic(FLEET, NODE, command), b"", retain=True)
    await site.quiet()
    work.gate.set()
    assert (await site.end(command)).state == "successful"


async def test_one_that_hangs_holds_up_its_own_lane_alone(site: CommandSite, work: ScriptedExecutor) -> None:
    work.gate.clear()
    stuck = site.send()
    await site.until(stuck, lambda report: report.state == "executing")
    behind = site.send()
    assert (await site.end(site.send("other"))).state == "successful"
    assert (await site.until(behind, lambda report: True)).state == "init"
    work.gate.set()
    assert (await site.end(behind)).state == "successful"


async def test_a_hundred_at_once_are_all_done_once(site: CommandSite, work: ScriptedExecutor) -> None:
    commands = [site.send() for _ in range(100)]
    for command in commands:
        assert (await site.end(command)).state == "successful"
    assert sorted(work.done) == sorted(commands)


async def test_what_takes_too_long_fails_even_where_it_does_not_heed_that(
    site: CommandSite, work: ScriptedExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qedge.fleet.commands.running._HEED_S", 0.05)
    work.gate.clear()
    work.stubborn = True
    report = await site.end(site.send(time_limit_s=0.5))
    assert (report.state, report.code) == ("failed", "order.timeout")
    work.gate.set()
    assert (await site.end(site.send())).state == "successful"


@pytest.mark.parametrize("where", ["waiting", "running", "held", "ended", "unknown"])
async def test_cancelling_reaches_a_command_in_every_phase(
    site: CommandSite, work: ScriptedExecutor, where: str
) -> None:
    if where == "unknown":
        report = await site.end(site.cancel(site.request().id))
        assert (report.state, report.code) == ("failed", "order.not_found")
        return
    if where == "held":
        target = site.send("trust")
        await site.until(target, lambda report: report.step.startswith("waits for a second"))
    elif where == "ended":
        target = site.send()
        await site.end(target)
    else:
        work.gate.clear()
        target = site.send()
        await site.until(target, lambda report: report.step == "half")
        if where == "waiting":
            target = site.send()
            await site.until(target, lambda report: True)
    canceller = await site.end(site.cancel(target))
    report = await site.end(target)
    if where == "ended":
        assert canceller.code == "order.ended"
        assert report.state == "successful"
    else:
        assert canceller.state == "successful"
        assert (report.state, report.code) == ("failed", "order.cancelled")
    assert report.id not in work.done or where == "ended"


async def test_what_two_persons_decide_waits_for_the_second(site: CommandSite) -> None:
    request = site.request("trust")
    signed = sign_request(request, *site.operator)
    site.publish(request, site.approved(signed))
    await site.until(request.id, lambda report: report.step == "waits for a second person")
    # oneself twice, a forged one, one without the role
    twin = site.fleet.operator("olga")
    clerk = site.fleet.operator("carl", OperatorRole.OPERATOR)
    site.publish(request, site.approved(signed, site.operator, twin, clerk))
    await site.quiet()
    assert (await site.view(request.id)).phase == "held"
    site.publish(request, site.approved(signed, clerk, site.fleet.operator("sue", OperatorRole.SECURITY)))
    assert (await site.end(request.id)).state == "successful"
    assert (await site.view(request.id)).approvals == ("sue",)


async def test_what_nobody_approves_in_time_fails(site: CommandSite) -> None:
    command = site.send("trust")
    await site.until(command, lambda report: report.step.startswith("waits for a second"))
    site.clock.shift_ns = 700 * 10**9
    report = await site.end(command)
    assert report.code == "order.second_person"


@pytest.mark.parametrize(("good", "state"), [(False, "failed"), (None, "successful"), (True, "successful")])
async def test_decisions_on_trust_want_a_clock_that_is_kept(tmp_path: Path, good: bool | None, state: str) -> None:
    trust = ScriptedExecutor("trust", role=OperatorRole.SECURITY)
    site = CommandSite(tmp_path, trust, ScriptedExecutor(), config=CommandsConfig())
    site.clock_good = good
    await site.start()
    report = await site.end(site.send("trust"))
    assert report.state == state
    assert report.code == ("" if state == "successful" else "order.clock")
    assert (await site.end(site.send())).state == "successful"
    await site.kill()


async def test_an_executor_that_fails_or_has_a_fault_says_so(site: CommandSite, work: ScriptedExecutor) -> None:
    work.error = QedgeError("driver.locked", "It is locked.")
    report = await site.end(site.send())
    assert (report.state, report.code, report.reason) == ("failed", "driver.locked", "It is locked.")
    work.error = RuntimeError("oh")
    assert (await site.end(site.send())).code == "internal.unexpected"
    work.error = None
    assert (await site.end(site.send())).state == "successful"


async def test_without_an_audit_log_nothing_is_accepted(site: CommandSite, work: ScriptedExecutor) -> None:
    site.acts.broken = True
    request = site.request()
    payload = site.order(request)
    site.publish(request, payload)
    async with asyncio.timeout(30):
        while "audit.unavailable" not in site.bus.rejected:
            await asyncio.sleep(0.01)
    assert work.began == []
    site.acts.broken = False
    site.publish(request, payload)
    assert (await site.end(request.id)).state == "successful"


@pytest.mark.parametrize("after", list(AfterCrash))
@pytest.mark.parametrize("phase", ["waiting", "starting", "running"])
async def test_a_command_that_a_crash_met_is_resumed_or_fails_with_a_reason(
    tmp_path: Path, phase: str, after: AfterCrash
) -> None:
    work = ScriptedExecutor(after_crash=after)
    work.found = Recovered(result=Answer("found"))
    site = CommandSite(tmp_path, work)
    await site.start()
    work.gate.clear()
    first = site.send()
    if phase != "starting":
        await site.until(first, lambda report: report.step == "half")
    target = first if phase != "waiting" else site.send()
    if phase == "waiting":
        await site.until(target, lambda report: True)
    await site.kill()
    if phase == "starting":
        set_phase(site, first, "starting")
    work.gate.set()
    began = len(work.began)
    await site.start()
    report = await site.end(target)
    if phase != "running" or after is AfterCrash.RERUN:
        assert report.state == "successful"
        assert work.done.count(target) == 1
    elif after is AfterCrash.CHECK:
        assert msgspec.msgpack.decode(report.result, type=Answer) == Answer("found")
        assert len(work.began) == began
    else:
        assert (report.state, report.code) == ("failed", "order.interrupted")
        assert work.done == []
    await site.kill()


def set_phase(site: CommandSite, command: str, phase: str) -> None:
    import sqlite3

    with sqlite3.connect(site.path) as connection:
        connection.execute("UPDATE commands SET phase = ? WHERE id = ?", (phase, command))
    connection.close()


async def test_what_ended_while_the_broker_was_away_is_told_when_it_is_back(
    site: CommandSite, work: ScriptedExecutor
) -> None:
    work.gate.clear()
    command = site.send()
    await site.until(command, lambda report: report.step == "half")
    site.bus.connected = False
    work.gate.set()
    async with asyncio.timeout(30):
        while (await site.view(command)).phase != "successful":
            await asyncio.sleep(0.01)
    assert site.told(command).state == "executing"  # type: ignore[union-attr] # it was told before
    await site.bus.connect()
    assert (await site.end(command)).state == "successful"


async def test_nothing_begins_before_the_broker_knows_that_it_does(site: CommandSite, work: ScriptedExecutor) -> None:
    request = site.request(time_limit_s=0.3)
    payload = site.order(request)
    site.bus.refuse = lambda where: "cmd-state" in where
    site.publish(request, payload)
    async with asyncio.timeout(30):
        while True:
            try:
                if (await site.view(request.id)).phase == "failed":
                    break
            except QedgeError:
                pass
            await asyncio.sleep(0.01)
    assert (await site.view(request.id)).code == "order.not_announced"
    assert work.began == []


async def test_states_of_long_ago_are_cleared_and_commands_still_known(
    site: CommandSite, work: ScriptedExecutor
) -> None:
    request = site.request(valid_s=7 * 86_400)
    payload = site.order(request)
    site.publish(request, payload)
    await site.end(request.id)
    site.broker.publish(command_topic(FLEET, NODE, request.id), b"", retain=True)
    site.clock.shift_ns = round(7.001 * 86_400 * 10**9)
    async with asyncio.timeout(30):
        while state_topic(FLEET, NODE, request.id) in site.broker.retained:
            await asyncio.sleep(0.05)
    site.publish(request, payload)
    site.clock.shift_ns += 3601 * 10**9
    await asyncio.sleep(0)
    assert work.done == [request.id]


async def test_the_node_says_what_it_can_be_ordered_to_do(site: CommandSite) -> None:
    kinds = {each.kind: each for each in site.service.kinds}
    assert set(kinds) == {"work", "other", "trust", "cancel"}
    assert kinds["trust"].two_persons
    assert not kinds["work"].two_persons
    async with asyncio.timeout(30):
        while f"qedge/v1/{FLEET}/{NODE}/commands" not in site.broker.retained:
            await asyncio.sleep(0.01)
