"""Claims about the policy of a node: its file, its fleet, restarts, and what a broker does to it."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from qedge.base.clock import ManualClock
from qedge.base.errors import QedgeError
from qedge.base.metrics import Metrics
from qedge.crypto.trust import sign_policy
from qedge.security.model import Reason
from qedge.security.policy import service as service_module
from qedge.security.policy.bundle import read_bundle
from qedge.security.policy.config import PolicyConfig
from qedge.security.policy.engine import PolicyEngine
from qedge.security.policy.service import PolicyService
from qedge.wire.envelope import Header, decode, encode, purpose_of
from qedge.wire.policy import PolicyBundle, PolicyNotice, RecordCommand, SignedPolicy
from qedge.wire.topics import Channel, topic
from qedge.wire.trust import AUTHORITY
from tests.integration.fleet_site import DAY_NS, ThrowAwayFleet
from tests.unit.security.policy.policy_site import (
    HEAD,
    NOON_UTC_NS,
    PUBLISH,
    REPORT,
    MemoryShelf,
    QuietBus,
    channel,
    meter,
    rule,
)

FLEET = ThrowAwayFleet()
OTHER = ThrowAwayFleet()
WHERE = topic("fleet", AUTHORITY, Channel.POLICY)
PERMIT = (HEAD + REPORT).encode()
FORBID = (HEAD + REPORT + rule("no", "forbid")).encode()


def signed(
    serial: int, text: bytes = PERMIT, *, by: ThrowAwayFleet = FLEET, fleet: str = "fleet", days: int = 1
) -> bytes:
    """Sign a policy."""
    bundle = PolicyBundle(fleet, serial, NOON_UTC_NS, NOON_UTC_NS + days * DAY_NS, text)
    return sign_policy(bundle, by.issuing_key, by.issuing)


def notice(bundle: bytes) -> bytes:
    """Write the message that stands on the topic."""
    header = Header(WHERE, AUTHORITY, 1, purpose_of(PolicyNotice), NOON_UTC_NS)
    return encode(header, PolicyNotice(bundle))


class Box:
    """A node's policy, over starts."""

    def __init__(self, file: str = "") -> None:
        self.file = file
        self.shelf = MemoryShelf()
        self.clock = ManualClock(utc_ns=NOON_UTC_NS)
        self.start()

    def start(self) -> None:
        """Begin anew, with what was kept."""
        self.bus = QuietBus()
        self.metrics = Metrics()
        self.service = PolicyService(
            PolicyEngine(),
            FLEET.trust(),
            PolicyConfig(self.file),
            bus=self.bus,
            shelf=self.shelf,
            clock=self.clock,
            metrics=self.metrics,
        )

    def reason(self) -> Reason:
        """Ask for something that `PERMIT` permits and `FORBID` forbids."""
        return self.service.engine.decide(meter(), PUBLISH, channel(), 0, self.clock.utc_ns()).reason

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the service."""
        ready = asyncio.Event()
        task = asyncio.create_task(self.service.run(ready.set))
        await ready.wait()
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "policy.toml"
    path.write_bytes(PERMIT)
    return path


async def test_the_file_counts_where_the_fleet_has_no_policy(file: Path) -> None:
    box = Box(str(file))
    await box.service.open()
    assert box.reason() is Reason.ALLOWED
    view = box.service.view()
    assert (view.source, view.rules, view.segments, view.refused) == ("file", 1, 2, "")


async def test_a_file_with_faults_at_the_start_leaves_everything_denied_and_says_why(file: Path) -> None:
    file.write_text("version = 1\nrule = 2\n")
    box = Box(str(file))
    await box.service.open()
    assert box.reason() is Reason.NO_RULE
    assert f"{file}:2" in box.service.view().refused
    assert box.metrics.value("qedge_policy_refused_total", ("policy.invalid",)) == 1


async def test_a_reload_takes_the_new_file_or_keeps_the_old_policy(file: Path) -> None:
    box = Box(str(file))
    await box.service.open()
    file.write_bytes(FORBID)
    assert (await box.service.reload()).rules == 2
    assert box.reason() is Reason.FORBIDDEN
    for broken, code in ((b"version = 2", "policy.invalid"), (None, "policy.unreadable")):
        file.unlink() if broken is None else file.write_bytes(broken)
        with pytest.raises(QedgeError) as error:
            await box.service.reload()
        assert error.value.code == code
        assert box.reason() is Reason.FORBIDDEN
        assert box.service.view().refused


async def test_a_policy_of_the_fleet_comes_before_the_file_and_is_there_after_a_restart(file: Path) -> None:
    box = Box(str(file))
    await box.service.open()
    view = await box.service.take(signed(3, FORBID))
    assert (view.source, view.serial) == ("fleet", 3)
    assert box.reason() is Reason.FORBIDDEN
    box.start()
    await box.service.open()
    assert box.reason() is Reason.FORBIDDEN
    assert (await box.service.reload()).source == "fleet"
    assert box.reason() is Reason.FORBIDDEN


async def test_what_was_taken_is_published_retained_for_all() -> None:
    box = Box()
    bundle = signed(1)
    await box.service.take(bundle)
    ((where, payload, retained),) = box.bus.published
    assert (where, retained) == (WHERE, True)
    assert decode(payload, WHERE, PolicyNotice, NOON_UTC_NS)[1].signed == bundle


async def test_a_peer_takes_what_stands_on_the_broker() -> None:
    first, second = Box(), Box()
    await first.service.take(signed(1, FORBID))
    await second.bus.deliver(*first.bus.published[0][:2])
    assert second.reason() is Reason.FORBIDDEN
    assert second.bus.published == [], "it is there already"


@pytest.mark.parametrize(
    ("offered", "code"),
    [
        (signed(4, FORBID), "policy.old"),
        (signed(5, FORBID), "policy.old"),
        (signed(6, FORBID, days=0), "policy.expired"),
        (signed(6, FORBID, by=OTHER), "auth.untrusted"),
        (signed(6, FORBID, fleet="else"), "policy.bad_bundle"),
        (signed(6, b"version = 9"), "policy.invalid"),
        (b"nothing of the kind", "policy.bad_bundle"),
        (b"", "policy.bad_bundle"),
    ],
)
async def test_what_is_old_expired_foreign_or_broken_changes_nothing(offered: bytes, code: str) -> None:
    box = Box()
    await box.service.take(signed(5))
    writes = box.shelf.writes
    with pytest.raises(QedgeError) as error:
        await box.service.take(offered)
    assert error.value.code == code
    with pytest.raises(QedgeError):
        await box.bus.deliver(WHERE, notice(offered))
    assert box.reason() is Reason.ALLOWED
    assert box.service.view().serial == 5
    assert box.shelf.writes == writes


def test_no_bit_of_a_signed_policy_can_be_changed() -> None:
    outer = msgspec.msgpack.decode(signed(1), type=SignedPolicy)
    trust = FLEET.trust()
    body = bytearray(outer.body)
    for place in range(len(body) - 60, len(body), 7):
        body[place] ^= 1
        changed = msgspec.msgpack.encode(msgspec.structs.replace(outer, body=bytes(body)))
        with pytest.raises(QedgeError) as error:
            read_bundle(changed, trust)
        assert error.value.code in ("auth.bad_signature", "policy.bad_bundle")
        body[place] ^= 1
    for other in (OTHER.issuing, FLEET.member("n")[1][0], FLEET.root):
        changed = msgspec.msgpack.encode(msgspec.structs.replace(outer, issuer=other))
        with pytest.raises(QedgeError):
            read_bundle(changed, trust)
    read_bundle(msgspec.msgpack.encode(outer), trust)


async def test_a_signature_for_another_purpose_is_worth_nothing() -> None:
    outer = msgspec.msgpack.decode(signed(1), type=SignedPolicy)
    forged = msgspec.structs.replace(outer, signature=FLEET.issuing_key.sign(outer.body, "revocations"))
    with pytest.raises(QedgeError) as error:
        await Box().service.take(msgspec.msgpack.encode(forged))
    assert error.value.code == "auth.bad_signature"


async def test_a_policy_that_expires_leaves_everything_denied_beside_a_file_and_after_a_restart(
    file: Path,
) -> None:
    box = Box(str(file))
    await box.service.open()
    await box.service.take(signed(2))
    box.clock.advance_s(86_399)
    box.service.tick()
    assert box.reason() is Reason.ALLOWED
    box.clock.advance_s(1)
    box.service.tick()
    assert box.reason() is Reason.NO_RULE
    assert box.service.view().source == "none"
    box.start()
    await box.service.open()
    assert box.reason() is Reason.NO_RULE
    await box.service.take(signed(3, days=30))
    assert box.reason() is Reason.ALLOWED


async def test_an_old_policy_cannot_come_back_after_the_newest_has_expired() -> None:
    box = Box()
    await box.service.take(signed(7))
    box.clock.advance_s(86_400)
    box.service.tick()
    with pytest.raises(QedgeError) as error:
        await box.service.take(signed(6, days=365))
    assert error.value.code == "policy.old"
    assert box.reason() is Reason.NO_RULE


async def test_what_was_kept_in_another_fleet_does_not_count() -> None:
    box = Box()
    await box.service.take(signed(7))
    (key,) = box.shelf.texts
    foreign = Box()
    foreign.shelf.texts[key] = base64.b64encode(signed(9, by=OTHER)).decode()
    foreign.start()
    await foreign.service.open()
    assert foreign.service.view().source == "none"
    await foreign.service.take(signed(1))
    assert foreign.reason() is Reason.ALLOWED


async def test_a_policy_that_cannot_be_written_down_is_not_enforced(monkeypatch: pytest.MonkeyPatch) -> None:
    box = Box()

    async def full(_key: str, _value: str, *, accepted: bool = False) -> None:
        raise QedgeError("store.disk_full", "The disk is full.")

    monkeypatch.setattr(box.shelf, "set_meta", full)
    with pytest.raises(QedgeError):
        await box.service.take(signed(1))
    assert box.reason() is Reason.NO_RULE
    assert box.bus.published == []


async def test_a_full_disk_keeps_no_new_policy_of_the_fleet_out() -> None:
    box = Box()
    await box.service.take(signed(1))
    assert box.reason() is Reason.ALLOWED
    box.shelf.full = True
    await box.service.take(signed(2, FORBID))
    assert box.reason() is not Reason.ALLOWED


async def test_a_broker_that_lost_or_replaced_the_policy_gets_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service_module, "_REPEAT_AFTER_S", 0.0)
    box, newest = Box(), signed(5)
    await box.service.take(newest)
    async with box.running():
        for payload in (b"", notice(signed(4, FORBID))):
            box.bus.published.clear()
            with pytest.raises(QedgeError):
                await box.bus.deliver(WHERE, payload)
            await asyncio.sleep(0.02)
            assert [where for where, _, _ in box.bus.published] == [WHERE]
        box.bus.published.clear()
        for hook in box.bus.hooks:
            await hook(False)
        await asyncio.sleep(0.02)
        assert len(box.bus.published) == 1
        box.bus.published.clear()
        await box.bus.deliver(WHERE, notice(newest))
        await asyncio.sleep(0.02)
        assert box.bus.published == [], "nobody answers to what all have"


async def test_requests_are_recorded_until_there_are_enough_or_the_time_is_over() -> None:
    box = Box()
    await box.service.take(signed(1))
    recording = asyncio.create_task(box.service.record(RecordCommand(2, 20)))
    await asyncio.sleep(0)
    for _ in range(3):
        box.reason()
    found = (await recording).requests
    assert [each.reason for each in found] == ["allowed", "allowed"]
    assert found[0].subject is not None
    assert found[0].subject.id == "m1"
    assert (await box.service.record(RecordCommand(5, 0.01))).requests == ()
    assert box.reason() is Reason.ALLOWED
