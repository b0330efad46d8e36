"""Attacks on commands of fleet operators: what nobody with the right to it ordered has no effect."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from qedge.crypto.model import Role
from qedge.crypto.operators import approve, pack_order, sign_request
from qedge.crypto.signed import join_signed, split_signed
from qedge.fleet.commands.config import CommandsConfig
from qedge.fleet.commands.ports import AfterCrash
from qedge.wire.commands import CommandOrder, CommandRequest, OperatorRole, command_topic, state_topic
from qedge.wire.envelope import Header, cover, encode, purpose_of, take_apart
from tests.integration.fleet_site import ThrowAwayFleet
from tests.unit.fleet.command_site import FLEET, NODE, CommandSite, ScriptedExecutor

DAY_S = 86_400.0


@pytest.fixture
def work() -> ScriptedExecutor:
    return ScriptedExecutor()


@pytest.fixture
async def site(tmp_path: Path, work: ScriptedExecutor) -> AsyncIterator[CommandSite]:
    trust = ScriptedExecutor("trust", "trust", role=OperatorRole.SECURITY, after_crash=AfterCrash.FAIL)
    config = CommandsConfig(synchronised_clock=False, two_persons=("trust",), checks_per_s=200.0)
    made = CommandSite(tmp_path, work, trust, config=config)
    await made.start()
    yield made
    await made.kill()


async def nothing_came_of(site: CommandSite, work: ScriptedExecutor, request: CommandRequest, code: str) -> None:
    """Let the node handle everything; nothing was done, kept or told."""
    await site.quiet()
    assert work.began == []
    assert code in site.bus.rejected
    assert state_topic(FLEET, NODE, request.id) not in site.broker.retained
    assert request.id not in [each.id for each in (await site.service.commands(100)).commands]


async def test_what_nobody_signed_has_no_effect(site: CommandSite, work: ScriptedExecutor) -> None:
    request = site.request()
    where = command_topic(FLEET, NODE, request.id)
    bare = Header(where, "olga", 1, purpose_of(CommandRequest), time.time_ns())
    for signed in (b"", b"x" * 100, encode(bare, request)):
        outer = Header(where, "olga", 1, purpose_of(CommandOrder), time.time_ns())
        site.publish(request, encode(outer, CommandOrder(signed)))
    site.publish(request, encode(bare, request))
    site.publish(request, b"\x00" * 4096)
    await nothing_came_of(site, work, request, "bus.bad_message")
    assert "auth.unsigned" in site.bus.rejected


@pytest.mark.parametrize(
    "who", ["a node", "another fleet", "an authority", "in another's name", "with another's chain"]
)
async def test_what_somebody_else_signed_has_no_effect(site: CommandSite, work: ScriptedExecutor, who: str) -> None:
    request = site.request()
    where = command_topic(FLEET, NODE, request.id)
    olga_key, olga_chain = site.operator
    mallory_key, mallory_chain = site.fleet.operator("mallory")
    signed = sign_request(request, olga_key, olga_chain)
    covered, chain, signature = split_signed(signed)
    if who == "a node":
        key, chain = site.fleet.member("olga")
        signed = join_signed(covered, chain, key.sign(covered, purpose_of(CommandRequest)))
    elif who == "another fleet":
        signed = sign_request(request, *ThrowAwayFleet(FLEET).operator("olga"))
    elif who == "an authority":
        key, chain = site.fleet.operator("olga", role=Role.AUTHORITY)
        signed = join_signed(covered, chain, key.sign(covered, purpose_of(CommandRequest)))
    elif who == "in another's name":
        signed = join_signed(covered, mallory_chain, mallory_key.sign(covered, purpose_of(CommandRequest)))
    else:
        signed = join_signed(covered, olga_chain, mallory_key.sign(covered, purpose_of(CommandRequest)))
    assert take_apart(signed).header.topic == where
    site.publish(request, pack_order(CommandOrder(signed)))
    code = "auth.bad_signature" if who == "with another's chain" else "auth.untrusted"
    await nothing_came_of(site, work, request, code)
    assert signature


async def test_a_changed_byte_anywhere_is_noticed(site: CommandSite, work: ScriptedExecutor) -> None:
    request = site.request()
    signed = sign_request(request, *site.operator)
    for place in (4, 20, 60, 150, 220, 300, len(signed) // 2, len(signed) - 3):
        outer = Header(command_topic(FLEET, NODE, request.id), "olga", 1, purpose_of(CommandOrder), time.time_ns())
        changed = signed[:place] + bytes([signed[place] ^ 1]) + signed[place + 1 :]
        site.publish(request, encode(outer, CommandOrder(changed)))
    await site.quiet()
    assert work.began == []
    assert site.told(request.id) is None


async def test_a_signature_for_another_purpose_is_worth_nothing(site: CommandSite, work: ScriptedExecutor) -> None:
    request = site.request()
    key, chain = site.operator
    header = take_apart(sign_request(request, key, chain)).header
    covered = cover(take_apart(sign_request(request, key, chain)).kind, header, msgspec.msgpack.encode(request))
    signed = join_signed(covered, chain, key.sign(covered, "command-report/1"))
    site.publish(request, pack_order(CommandOrder(signed)))
    await nothing_came_of(site, work, request, "auth.bad_signature")


@pytest.mark.parametrize("field", ["node", "fleet", "id"])
async def test_a_command_for_another_node_or_topic_has_no_effect(
    site: CommandSite, work: ScriptedExecutor, field: str
) -> None:
    request = site.request()
    other = {"node": "other", "fleet": "others", "id": site.request().id}[field]
    elsewhere = msgspec.structs.replace(request, **{field: other})
    # as it was signed, on a topic of this node
    site.publish(request, site.order(elsewhere))
    # the right envelope around a request for somebody else
    key, chain = site.operator
    good = take_apart(sign_request(request, key, chain))
    covered = cover(good.kind, good.header, msgspec.msgpack.encode(elsewhere))
    signed = join_signed(covered, chain, key.sign(covered, purpose_of(CommandRequest)))
    site.publish(request, pack_order(CommandOrder(signed)))
    await nothing_came_of(site, work, request, "order.misdirected")


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"issued_utc_ns": -700, "expires_utc_ns": -100}, "order.expired"),
        ({"issued_utc_ns": 600, "expires_utc_ns": 1200}, "order.clock"),
        ({"issued_utc_ns": 0, "expires_utc_ns": 8 * DAY_S}, "order.expired"),
        ({"issued_utc_ns": 0, "expires_utc_ns": 0}, "order.expired"),
        ({"kind": "trust-me"}, "order.unknown_kind"),
        ({"arguments": b"wrong"}, "order.bad_arguments"),
    ],
)
async def test_what_an_operator_may_not_order_now_is_refused_with_the_reason(
    site: CommandSite, work: ScriptedExecutor, change: dict[str, object], code: str
) -> None:
    now_ns = time.time_ns()
    moments = {name: now_ns + round(value * 1e9) for name, value in change.items() if isinstance(value, (int, float))}
    # to the node's own key: what names none must not be older than its certificate, which is of today
    request = site.request(node_key=site.node_key.key_id, **{**change, **moments})
    site.publish(request, site.order(request))
    report = await site.end(request.id)
    assert (report.state, report.code) == ("failed", code)
    assert work.began == []
    assert ("refused", code) in [row[1:] for row in site.acts.rows]


async def test_what_is_older_than_the_journal_is_not_even_told_of(site: CommandSite, work: ScriptedExecutor) -> None:
    long_ago = time.time_ns() - round(8 * DAY_S * 1e9)
    request = site.request(issued_utc_ns=long_ago, expires_utc_ns=time.time_ns() + 10**12)
    site.publish(request, site.order(request))
    await nothing_came_of(site, work, request, "order.forgotten")


async def test_the_wrong_role_is_refused(site: CommandSite, work: ScriptedExecutor) -> None:
    for number, roles in enumerate(((OperatorRole.VIEWER,), (OperatorRole.SECURITY,))):
        request = site.request()
        site.publish(request, site.order(request, site.fleet.operator(f"clerk-{number}", *roles)))
        assert (await site.end(request.id)).code == "order.role"
    request = site.request("trust")
    site.publish(request, site.order(request, site.fleet.operator("clerk", OperatorRole.OPERATOR)))
    assert (await site.end(request.id)).code == "order.role"
    assert work.began == []


async def test_who_may_not_order_a_command_may_not_cancel_it(site: CommandSite, work: ScriptedExecutor) -> None:
    from qedge.wire.commands import CancelCommand

    work.gate.clear()
    target = site.send()
    await site.until(target, lambda report: report.step == "half")
    request = site.request("cancel", msgspec.msgpack.encode(CancelCommand(target)))
    site.publish(request, site.order(request, site.fleet.operator("clerk", OperatorRole.VIEWER)))
    assert (await site.end(request.id)).code == "order.role"
    work.gate.set()
    assert (await site.end(target)).state == "successful"


async def test_a_serial_counts_once_for_a_key(site: CommandSite, work: ScriptedExecutor) -> None:
    first = site.request()
    site.publish(first, site.order(first))
    await site.end(first.id)
    again = msgspec.structs.replace(site.request(), serial=first.serial)
    site.publish(again, site.order(again))
    report = await site.end(again.id)
    assert (report.state, report.code) == ("failed", "order.replayed")
    assert work.done == [first.id]
    # another person's serials are that person's
    other = msgspec.structs.replace(site.request(), serial=first.serial)
    site.publish(other, site.order(other, site.fleet.operator("otto")))
    assert (await site.end(other.id)).state == "successful"


async def test_a_command_that_was_done_is_not_done_again_after_a_restart(
    site: CommandSite, work: ScriptedExecutor
) -> None:
    request = site.request()
    payload = site.order(request)
    site.publish(request, payload)
    await site.end(request.id)
    for _ in range(3):
        await site.kill()
        site.broker.retained.pop(state_topic(FLEET, NODE, request.id), None)
        await site.start()
        site.publish(request, payload)
        await site.end(request.id)
    assert work.done == [request.id]


async def test_another_request_under_a_known_id_has_no_effect(site: CommandSite, work: ScriptedExecutor) -> None:
    work.gate.clear()
    command = site.send()
    await site.until(command, lambda report: report.step == "half")
    other = site.request("trust", id=command)
    site.publish(other, site.order(other))
    await site.quiet()
    assert "order.conflict" in site.bus.rejected
    work.gate.set()
    assert (await site.view(command)).kind == "work"
    assert (await site.end(command)).state == "successful"


async def test_a_revoked_operator_is_heard_no_more(site: CommandSite, work: ScriptedExecutor) -> None:
    mallory = site.fleet.operator("mallory")
    site.trust.take_revocations(site.fleet.revoke(mallory[0].key_id), time.time_ns())
    request = site.request()
    site.publish(request, site.order(request, mallory))
    await nothing_came_of(site, work, request, "auth.revoked")


async def test_an_operator_whose_certificate_has_expired_is_heard_no_more(
    site: CommandSite, work: ScriptedExecutor
) -> None:
    old = site.fleet.operator("old", days=1)
    site.clock.shift_ns = round(1.5 * DAY_S * 1e9)
    late = site.clock.utc_ns()
    request = site.request(issued_utc_ns=late, expires_utc_ns=late + 10**11)
    site.publish(request, site.order(request, old))
    async with asyncio.timeout(30):
        while "auth.untrusted" not in site.bus.rejected:
            await asyncio.sleep(0.01)
    assert work.began == []


async def test_a_clock_that_went_back_makes_nothing_good_again(site: CommandSite, work: ScriptedExecutor) -> None:
    old = site.request(valid_s=60)
    await site.end(site.send())
    done = list(work.done)
    site.clock.shift_ns = round(3600 * 1e9)
    later = site.clock.utc_ns()
    await site.end(site.send(issued_utc_ns=later, expires_utc_ns=later + 10**12))
    done = list(work.done)
    site.clock.shift_ns = 0
    site.publish(old, site.order(old))
    assert (await site.end(old.id)).code == "order.clock"
    assert work.done == done


async def test_a_request_from_the_future_keeps_nobody_else_out(site: CommandSite, work: ScriptedExecutor) -> None:
    future = time.time_ns() + round(DAY_S * 1e9)
    assert (await site.end(site.send(issued_utc_ns=future, expires_utc_ns=future + 10**12))).code == "order.clock"
    # nor does a time in which the clock of the node was wrong
    site.clock.shift_ns = round(2 * DAY_S * 1e9)
    assert (await site.end(site.send())).code == "order.expired"
    site.clock.shift_ns = 0
    await site.kill()
    await site.start()
    assert (await site.end(site.send())).state == "successful"


@pytest.mark.parametrize("approver", ["the sender", "a twin", "a clerk", "a stranger", "for another", "garbage"])
async def test_no_approval_but_a_second_persons_counts(site: CommandSite, approver: str) -> None:
    request = site.request("trust")
    signed = sign_request(request, *site.operator)
    sue = site.fleet.operator("sue")
    approvals = {
        "the sender": approve(signed, *site.operator),
        "a twin": approve(signed, *site.fleet.operator("olga")),
        "a clerk": approve(signed, *site.fleet.operator("clerk", OperatorRole.OPERATOR)),
        "a stranger": approve(signed, *ThrowAwayFleet(FLEET).operator("sue")),
        "for another": approve(sign_request(site.request("trust"), *site.operator), *sue),
        "garbage": msgspec.structs.replace(approve(signed, *sue), signature=b"x"),
    }
    site.publish(request, pack_order(CommandOrder(signed, (approvals[approver],))))
    await site.until(request.id, lambda report: report.step == "waits for a second person")
    await site.quiet()
    assert (await site.view(request.id)).phase == "held"


async def test_a_flood_of_forgeries_costs_little_and_holds_up_nobody(
    tmp_path: Path, work: ScriptedExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qedge.fleet.commands.service._SWEEP_S", 0.2)
    site = CommandSite(tmp_path, work, config=CommandsConfig(synchronised_clock=False, checks_per_s=5.0))
    await site.start()
    mallory = ThrowAwayFleet(FLEET).operator("olga")
    request = site.request()
    covered, chain, signature = split_signed(sign_request(request, *mallory))
    for number in range(800):
        forged = join_signed(covered, chain, number.to_bytes(8, "big") + signature[8:])
        site.publish(request, pack_order(CommandOrder(forged)))
    swept = site.send()
    async with asyncio.timeout(20):
        while len(site.bus.rejected) < 801:
            await asyncio.sleep(0.01)
    assert site.bus.rejected.count("auth.untrusted") <= 5.0 * 5 + 10 * 5
    assert site.bus.rejected.count("order.flood") >= 700
    assert work.began == []
    # a calm moment later an operator is heard, also one whose command came in the flood
    assert (await site.end(swept)).state == "successful"
    assert (await site.end(site.send())).state == "successful"
    await site.kill()
