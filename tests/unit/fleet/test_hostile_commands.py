"""Commands under people, brokers, clocks and disks that mean no good."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec
import pytest

from qedge.base.errors import QedgeError
from qedge.bus.model import Incoming
from qedge.crypto.operators import sign_request
from qedge.fleet.commands.config import CommandsConfig
from qedge.wire.commands import CancelCommand, OperatorRole, command_topic
from tests.integration.fleet_site import ThrowAwayFleet
from tests.unit.fleet.command_site import FLEET, NODE, CommandSite, ScriptedExecutor

DAY_NS = 86_400 * 10**9


@pytest.fixture
def work() -> ScriptedExecutor:
    return ScriptedExecutor()


@pytest.fixture
async def site(tmp_path: Path, work: ScriptedExecutor, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[CommandSite]:
    monkeypatch.setattr("qedge.fleet.commands.service._SWEEP_S", 0.1)
    trust = ScriptedExecutor("trust", "trust", role=OperatorRole.SECURITY)
    second = ScriptedExecutor("second", "second", role=OperatorRole.SECURITY)
    config = CommandsConfig(synchronised_clock=False, two_persons=("second",), max_waiting=2)
    made = CommandSite(tmp_path, work, trust, second, config=config)
    await made.start()
    yield made
    await made.kill()


async def until(holds: Callable[[], bool], limit_s: float = 10.0) -> None:
    async with asyncio.timeout(limit_s):
        while not holds():
            await asyncio.sleep(0.01)


class Gate:
    """Holds back what the node tells of one command."""

    def __init__(self, site: CommandSite, command: str) -> None:
        self.open = asyncio.Event()
        self.reached = asyncio.Event()
        publish = site.bus.publish

        async def held(where: str, payload: bytes, *, qos: int, retain: bool = False, expiry_s: int = 0) -> None:
            if where.endswith(f"/cmd-state/{command}"):
                self.reached.set()
                await self.open.wait()
            await publish(where, payload, qos=qos, retain=retain, expiry_s=expiry_s)

        site.bus.publish = held  # type: ignore[method-assign] # a broker that takes its time


@pytest.mark.parametrize("restart", [False, True])
async def test_a_clock_that_ran_ahead_and_came_back_brings_no_command_a_second_time(
    site: CommandSite, work: ScriptedExecutor, restart: bool
) -> None:
    request = site.request(valid_s=6 * 86_400)
    payload = site.order(request)
    site.publish(request, payload)
    assert (await site.end(request.id)).state == "successful"
    site.clock.shift_ns = 30 * DAY_NS
    await until(lambda: site.service.journal.size == 0)
    site.clock.shift_ns = 0
    if restart:
        await site.kill()
        await site.start()
    site.publish(request, payload)
    await site.quiet()
    assert work.began == [request.id]
    assert "order.forgotten" in site.bus.rejected


async def test_nobody_cancels_what_is_not_his_by_ordering_it_before(site: CommandSite) -> None:
    # the broker keeps the word that the cancelling begins until it has brought what is to be cancelled
    target = site.request("trust")
    clerk = site.fleet.operator("carl", OperatorRole.OPERATOR)
    cancel = site.request("cancel", msgspec.msgpack.encode(CancelCommand(target.id)))
    site.executors[1].gate.clear()  # type: ignore[attr-defined] # a scripted one
    gate = Gate(site, cancel.id)
    site.publish(cancel, site.order(cancel, clerk))
    await asyncio.wait_for(gate.reached.wait(), 10)
    site.publish(target, site.order(target))
    await until(lambda: site.service.journal.digest(target.id) is not None)
    gate.open.set()
    report = await site.end(cancel.id)
    assert (report.state, report.code) == ("failed", "order.not_found")
    site.executors[1].gate.set()  # type: ignore[attr-defined] # as above
    assert (await site.end(target.id)).state == "successful"


@pytest.mark.parametrize("broken", ["audit", "journal"])
async def test_what_could_not_be_written_down_is_read_again_once_it_can(
    site: CommandSite, work: ScriptedExecutor, broken: str
) -> None:
    add = site.service.journal.add

    async def full(_entry: object) -> None:
        raise QedgeError("store.disk_full", "The disk is full.")

    if broken == "audit":
        site.acts.broken = True
    else:
        site.service.journal.add = full  # type: ignore[method-assign] # a disk that is full
    command = site.send()
    code = "audit.unavailable" if broken == "audit" else "store.disk_full"
    await until(lambda: code in site.bus.rejected)
    site.acts.broken = False
    site.service.journal.add = add  # type: ignore[method-assign] # there is room again
    assert (await site.end(command)).state == "successful"
    assert work.done == [command]


async def test_what_waits_does_not_begin_once_the_key_of_its_operator_is_revoked(
    site: CommandSite, work: ScriptedExecutor
) -> None:
    work.gate.clear()
    first = site.send()
    await site.until(first, lambda report: report.step == "half")
    thief = site.fleet.operator("thea")
    request = site.request()
    site.publish(request, site.order(request, thief))
    await site.until(request.id, lambda report: True)
    site.trust.revoked_keys |= {thief[0].key_id}
    work.gate.set()
    report = await site.end(request.id)
    assert (report.state, report.code) == ("failed", "auth.revoked")
    assert work.done == [first]


async def test_what_waits_does_not_begin_once_the_key_of_its_only_second_person_is_revoked(site: CommandSite) -> None:
    second = site.executors[2]
    second.gate.clear()  # type: ignore[attr-defined] # a scripted one
    sue = site.fleet.operator("sue", OperatorRole.SECURITY)
    commands = []
    for _ in range(2):
        request = site.request("second")
        site.publish(request, site.approved(sign_request(request, *site.operator), sue))
        commands.append(request.id)
    await site.until(commands[0], lambda report: report.step == "half")
    await site.until(commands[1], lambda report: True)
    site.trust.revoked_keys |= {sue[0].key_id}
    second.gate.set()  # type: ignore[attr-defined] # as above
    assert (await site.end(commands[0])).state == "successful"
    assert (await site.end(commands[1])).code == "auth.revoked"


async def test_nothing_begins_after_its_expiry_though_the_broker_was_told_of_it_before(
    site: CommandSite, work: ScriptedExecutor
) -> None:
    request = site.request()
    gate = Gate(site, request.id)
    site.publish(request, site.order(request))
    await asyncio.wait_for(gate.reached.wait(), 10)
    await asyncio.sleep(0.1)
    site.clock.shift_ns = 700 * 10**9
    gate.open.set()
    report = await site.end(request.id)
    assert (report.state, report.code) == ("failed", "order.expired")
    assert work.began == []


async def test_where_no_more_may_wait_one_can_still_be_cancelled(site: CommandSite, work: ScriptedExecutor) -> None:
    work.gate.clear()
    running = site.send()
    await site.until(running, lambda report: report.step == "half")
    waiting = [site.send() for _ in range(2)]
    for command in waiting:
        await site.until(command, lambda report: True)
    assert (await site.end(site.send())).code == "order.queue_full"
    assert (await site.end(site.cancel(waiting[0]))).state == "successful"
    assert (await site.end(waiting[0])).code == "order.cancelled"


async def test_a_cancelling_that_came_too_late_does_not_say_that_it_cancelled(
    site: CommandSite, work: ScriptedExecutor
) -> None:
    reached, go_on = asyncio.Event(), asyncio.Event()

    async def effect() -> None:
        reached.set()
        while not go_on.is_set():
            try:
                await go_on.wait()
            except asyncio.CancelledError:
                go_on.set()  # it is too late to heed that

    work.after_effect = effect
    command = site.send()
    await asyncio.wait_for(reached.wait(), 10)
    cancelling = await site.end(site.cancel(command))
    report = await site.end(command)
    assert (report.state, work.done) == ("successful", [command])
    assert (cancelling.state, cancelling.code) == ("failed", "order.ended")


async def test_what_is_cancelled_while_it_begins_does_nothing(site: CommandSite, work: ScriptedExecutor) -> None:
    change = site.service.journal.change
    request = site.request()

    async def slow(entry: object) -> None:
        await change(entry)  # type: ignore[arg-type] # as it comes
        if getattr(entry, "phase", "") == "running" and getattr(entry, "id", "") == request.id:
            asked = site.service._runner._under_way[request.id].asked
            site.cancel(request.id)
            await asked.wait()

    site.service.journal.change = slow  # type: ignore[method-assign] # a disk that takes its time
    site.publish(request, site.order(request))
    assert (await site.end(request.id)).code == "order.cancelled"
    assert work.began == []


async def test_a_replayed_serial_is_never_written_down_as_accepted(site: CommandSite, work: ScriptedExecutor) -> None:
    first = site.request()
    site.publish(first, site.order(first))
    await site.end(first.id)
    second = site.request(serial=first.serial)
    site.acts.rows.clear()
    site.publish(second, site.order(second))
    assert (await site.end(second.id)).code == "order.replayed"
    await site.quiet()
    assert ("work", "refused", "order.replayed") in site.acts.rows
    assert not [row for row in site.acts.rows if row[:2] == ("work", "accepted")]
    assert work.done == [first.id]
    assert site.broker.retained[command_topic(FLEET, NODE, second.id)]


async def test_a_list_of_commands_holds_no_results_which_are_large(site: CommandSite) -> None:
    command = site.send()
    await site.end(command)
    listed = await site.service.commands(1000)
    assert [each.result for each in listed.commands if each.id == command] == [b""]
    assert (await site.view(command)).result


async def test_a_result_that_the_broker_does_not_take_holds_up_no_other_state(site: CommandSite) -> None:
    publish = site.bus.publish
    first, second = site.request(), site.request()
    large = msgspec.msgpack.encode("done")

    async def small(where: str, payload: bytes, *, qos: int, retain: bool = False, expiry_s: int = 0) -> None:
        if where.endswith(first.id) and large in payload:
            raise QedgeError("bus.too_large", "A message is over the limit.")
        await publish(where, payload, qos=qos, retain=retain, expiry_s=expiry_s)

    site.bus.publish = small  # type: ignore[method-assign] # a broker with a limit of its own
    site.publish(first, site.order(first))
    report = await site.end(first.id)
    assert (report.state, report.result, report.code) == ("successful", b"", "bus.too_large")
    assert (await site.view(first.id)).result
    site.publish(second, site.order(second))
    assert (await site.end(second.id)).result


async def test_who_may_only_look_does_not_fill_the_journal_for_those_who_decide_on_trust(
    tmp_path: Path, work: ScriptedExecutor
) -> None:
    site = CommandSite(tmp_path, work, config=CommandsConfig(synchronised_clock=False, max_kept=16))
    await site.start()
    clerk = site.fleet.operator("vera", OperatorRole.VIEWER)
    for _ in range(20):
        request = site.request()
        site.publish(request, site.order(request, clerk))
    assert (await site.end(site.send())).state == "successful"
    assert site.service.journal.size == 13
    assert site.bus.rejected.count("order.queue_full") == 8
    await site.kill()


async def wipe_and_enrol_again(site: CommandSite, later_s: float) -> None:
    """Take away all that the node knows, and let it come back under its name with a key that is certified later."""
    await site.kill()
    for path in site.path.parent.glob(f"{site.path.name}*"):
        path.unlink()
    site.fleet.utc_ns = time.time_ns() + round(later_s * 1e9)
    site.enrol()
    await site.start()


@pytest.mark.parametrize("bound", [True, False])
async def test_a_box_that_was_wiped_and_enrolled_again_does_not_take_the_order_to_the_one_before(
    site: CommandSite, work: ScriptedExecutor, bound: bool
) -> None:
    request = site.request(**({"node_key": site.node_key.key_id} if bound else {}))
    site.publish(request, site.order(request))
    assert (await site.end(request.id)).state == "successful"
    # a bound order is known by its key alone, whatever the clocks of the authority and the operator say
    await wipe_and_enrol_again(site, later_s=-3600.0 if bound else 2.0)
    await site.quiet()
    assert work.began == [request.id]
    assert ("order.misdirected" if bound else "order.forgotten") in site.bus.rejected
    told = site.told(request.id)
    assert told is not None
    assert told.state == "successful"  # what the identity before said of it stands


async def test_an_order_to_the_key_that_a_node_has_counts_though_its_certificate_is_newer(
    site: CommandSite, work: ScriptedExecutor
) -> None:
    site.fleet.utc_ns = time.time_ns() + 2 * 10**9
    site.node_chain = site.fleet.certify(NODE, site.node_key.public_key)
    command = site.send(node_key=site.node_key.key_id)
    assert (await site.end(command)).state == "successful"
    assert work.done == [command]


async def get_new_key(site: CommandSite) -> str:
    """Let the node start anew with another key and all that it knows, as after `certificate-take`; returns the old."""
    await site.quiet()
    old = site.node_key.key_id
    await site.kill()
    site.fleet.utc_ns = time.time_ns() + 2 * 10**9
    site.enrol()
    return old


@pytest.mark.parametrize("bound", [True, False])
async def test_an_order_to_the_key_that_a_node_had_fails_with_the_word_to_send_it_again(
    site: CommandSite, work: ScriptedExecutor, bound: bool
) -> None:
    old = await get_new_key(site)
    request = site.request(**({"node_key": old} if bound else {}))
    site.publish(request, site.order(request))
    await site.start()
    report = await site.end(request.id)
    assert (report.state, report.code, work.began) == ("failed", "order.key_changed", [])
    assert "Send it again" in report.reason
    assert ("work", "refused", "order.key_changed") in site.acts.rows
    again = site.request(node_key=site.node_key.key_id)
    site.publish(again, site.order(again))
    assert (await site.end(again.id)).state == "successful"


async def test_an_order_to_a_former_key_is_refused_once_however_often_the_broker_brings_it(
    site: CommandSite, work: ScriptedExecutor
) -> None:
    old = await get_new_key(site)
    request = site.request(node_key=old)
    payload = site.order(request)
    site.publish(request, payload)
    await site.start()
    for _ in range(2):
        await site.end(request.id)
        await site.kill()
        await site.start()
        site.publish(request, payload)
        await site.quiet()
    assert {(each.state, each.revision) for each in site.all_told(request.id)} == {("failed", 1)}
    assert site.acts.rows.count(("work", "refused", "order.key_changed")) == 1
    assert work.began == []


async def test_what_was_done_under_the_former_key_keeps_its_state_when_its_order_comes_again(
    site: CommandSite, work: ScriptedExecutor
) -> None:
    request = site.request(node_key=site.node_key.key_id)
    payload = site.order(request)
    site.publish(request, payload)
    assert (await site.end(request.id)).state == "successful"
    await get_new_key(site)
    await site.start()
    site.publish(request, payload)
    await site.quiet()
    told = site.told(request.id)
    assert told is not None
    assert (told.state, work.began) == ("successful", [request.id])


async def test_a_forged_order_to_a_former_key_is_not_answered(site: CommandSite, work: ScriptedExecutor) -> None:
    old = await get_new_key(site)
    forged = site.request(node_key=old)
    site.publish(forged, site.order(forged, ThrowAwayFleet(FLEET).operator("olga")))
    stranger = site.request(node_key="0" * 32)
    site.publish(stranger, site.order(stranger))
    await site.start()
    await site.quiet()
    assert (site.told(forged.id), site.told(stranger.id), work.began) == (None, None, [])
    assert {"auth.untrusted", "order.misdirected"} <= set(site.bus.rejected)


async def test_an_order_that_names_no_key_outlives_a_renewal_since_the_key_stays(
    site: CommandSite, work: ScriptedExecutor
) -> None:
    await site.quiet()
    await site.kill()
    request = site.request()
    site.publish(request, site.order(request))
    site.fleet.utc_ns = time.time_ns() + 2 * 10**9
    site.node_chain = site.fleet.certify(NODE, site.node_key.public_key)
    await site.start()
    assert (await site.end(request.id)).state == "successful"
    assert work.done == [request.id]


async def test_a_command_whose_handling_took_too_long_is_carried_out_once_and_never_told_as_replayed(
    site: CommandSite, work: ScriptedExecutor
) -> None:
    await site.quiet()
    journal = site.service.journal
    write = journal._store.write

    async def slow(*args: object, **more: object) -> object:
        done = await write(*args, **more)  # type: ignore[arg-type] # as it comes
        await asyncio.sleep(0.2)
        return done

    request = site.request()
    message = Incoming(command_topic(FLEET, NODE, request.id), site.order(request), 1, False)
    journal._store.write = slow  # type: ignore[method-assign] # a disk that takes its time
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(site.service._intake.receive(message), 0.1)
    journal._store.write = write  # type: ignore[method-assign] # as it was
    await site.service._intake.receive(message)
    assert (await site.end(request.id)).state == "successful"
    assert work.done == [request.id]
    assert "failed" not in {each.state for each in site.all_told(request.id)}


async def test_what_runs_out_of_time_while_it_notes_a_step_ends(site: CommandSite) -> None:
    change = site.service.journal.change
    request = site.request(time_limit_s=0.5)

    async def slow(entry: object) -> None:
        await change(entry)  # type: ignore[arg-type] # as it comes
        if getattr(entry, "step", "") == "half" and getattr(entry, "phase", "") == "running":
            await asyncio.sleep(60)

    site.service.journal.change = slow  # type: ignore[method-assign] # a disk that takes its time
    site.publish(request, site.order(request))
    assert (await site.end(request.id)).code == "order.timeout"


async def test_a_state_that_the_broker_refuses_to_take_away_keeps_no_row_in_the_journal(site: CommandSite) -> None:
    publish = site.bus.publish
    commands = [site.send() for _ in range(3)]
    for command in commands:
        await site.end(command)

    async def refusing(where: str, payload: bytes, *, qos: int, retain: bool = False, expiry_s: int = 0) -> None:
        if where.endswith(f"/cmd-state/{commands[0]}"):
            raise QedgeError("bus.refused", "Not authorized.")
        await publish(where, payload, qos=qos, retain=retain, expiry_s=expiry_s)

    site.bus.publish = refusing  # type: ignore[method-assign] # a broker whose rights have changed
    site.clock.shift_ns = 30 * DAY_NS
    await until(lambda: site.service.journal.size == 0)


async def test_a_known_request_that_comes_again_and_again_costs_no_signature_each_time(
    site: CommandSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qedge.fleet.commands.telling._REMIND_NS", DAY_NS)
    request = site.request()
    payload = site.order(request)
    site.publish(request, payload)
    await site.end(request.id)
    before = len(site.all_told(request.id))
    for _ in range(3):
        site.publish(request, payload)
        await site.quiet()
    await until(lambda: len(site.all_told(request.id)) > before)
    await site.quiet()
    assert len(site.all_told(request.id)) == before + 1
