"""Who a node is: made once, kept, replaced only by what its authority certified for a key that the node has."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from qedge.base.errors import QedgeError
from qedge.base.metrics import Metrics
from qedge.crypto.certificates import read_request
from qedge.crypto.trust import pin
from qedge.daemon.membership.identity import (
    LocalIdentity,
    adopt_membership,
    broker_password,
    keep_revocations,
    load_identity,
    request_identity,
)
from qedge.store.store import Store
from qedge.wire.trust import Membership, NewIdentity
from tests.integration.fleet_site import DAY_NS, ThrowAwayFleet


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    """An open, empty store."""
    made = Store(tmp_path / "q.sqlite3", metrics=Metrics())
    yield made
    made.close()


async def load(store: Store, fleet: str = "local", node: str = "box", utc_ns: int = 0) -> LocalIdentity:
    return await load_identity(store, fleet, node, utc_ns or time.time_ns(), os.urandom)


async def certified(store: Store, fleet: ThrowAwayFleet, node: str = "box", *, days: int = 30) -> Membership:
    """Request a place in a fleet and return what its authority answers."""
    request = await request_identity(store, NewIdentity(fleet.name, node), os.urandom)
    _, public_key = read_request(request.request)
    return Membership(fleet.anchor, fleet.certify(node, public_key, days=days))


async def test_a_box_without_a_fleet_makes_an_identity_once_and_keeps_it(store: Store) -> None:
    first = await load(store)
    again = await load(store)
    assert first.standalone
    assert (again.key.key_id, again.membership) == (first.key.key_id, first.membership)
    assert first.view().pin == pin(first.membership.anchor).hex()


async def test_a_renamed_box_without_a_fleet_becomes_somebody_new(store: Store) -> None:
    first = await load(store)
    renamed = await load(store, node="other")
    assert renamed.node == renamed.member.subject.name == "other"
    assert renamed.key.key_id != first.key.key_id


async def test_a_member_keeps_its_names_whatever_its_configuration_says(store: Store) -> None:
    fleet = ThrowAwayFleet()
    await adopt_membership(store, await certified(store, fleet, "far"), time.time_ns())
    identity = await load(store, "local", "box")
    assert (identity.fleet, identity.node, identity.standalone) == ("fleet", "far", False)


async def test_a_request_changes_nothing_until_its_certificate_comes(store: Store) -> None:
    before = await load(store)
    membership = await certified(store, ThrowAwayFleet())
    assert (await load(store)).key.key_id == before.key.key_id
    await adopt_membership(store, membership, time.time_ns())
    assert (await load(store)).key.key_id != before.key.key_id


async def test_a_later_request_makes_an_earlier_one_worthless(store: Store) -> None:
    fleet = ThrowAwayFleet()
    earlier = await certified(store, fleet)
    later = await certified(store, fleet)
    with pytest.raises(QedgeError) as refused:
        await adopt_membership(store, earlier, time.time_ns())
    assert refused.value.code == "fleet.not_requested"
    await adopt_membership(store, later, time.time_ns())


async def test_a_certificate_for_a_key_of_somebody_else_is_refused(store: Store) -> None:
    before = await load(store)
    fleet = ThrowAwayFleet()
    _, chain = fleet.member("box")
    with pytest.raises(QedgeError) as refused:
        await adopt_membership(store, Membership(fleet.anchor, chain), time.time_ns())
    assert refused.value.code == "fleet.not_requested"
    assert refused.value.fix
    assert (await load(store)).key.key_id == before.key.key_id


async def test_a_chain_that_does_not_lead_to_its_anchor_is_refused(store: Store) -> None:
    fleet, stranger = ThrowAwayFleet(), ThrowAwayFleet()
    membership = await certified(store, fleet)
    for wrong in (
        msgspec.structs.replace(membership, anchor=stranger.anchor),
        msgspec.structs.replace(membership, chain=(membership.chain[0], stranger.issuing)),
        msgspec.structs.replace(membership, chain=membership.chain[:1]),
    ):
        with pytest.raises(QedgeError) as refused:
            await adopt_membership(store, wrong, time.time_ns())
        assert refused.value.code == "auth.untrusted"


async def test_an_expired_or_revoked_certificate_is_not_adopted(store: Store) -> None:
    fleet = ThrowAwayFleet()
    membership = await certified(store, fleet, days=1)
    with pytest.raises(QedgeError) as late:
        await adopt_membership(store, membership, time.time_ns() + 3 * DAY_NS)
    assert late.value.code == "auth.untrusted"
    key_id = fleet.trust().read(membership.chain).key_id
    with pytest.raises(QedgeError) as revoked:
        await adopt_membership(
            store, msgspec.structs.replace(membership, revocations=fleet.revoke(key_id)), time.time_ns()
        )
    assert revoked.value.code == "auth.revoked"


async def test_an_expired_member_still_starts_for_its_local_work(store: Store) -> None:
    fleet = ThrowAwayFleet()
    await adopt_membership(store, await certified(store, fleet, days=1), time.time_ns())
    identity = await load(store, utc_ns=time.time_ns() + 30 * DAY_NS)
    assert not identity.standalone
    assert identity.member.not_after_utc_ns < time.time_ns() + 30 * DAY_NS


async def test_the_present_key_takes_its_next_certificate(store: Store) -> None:
    fleet = ThrowAwayFleet()
    await adopt_membership(store, await certified(store, fleet, days=5), time.time_ns())
    present = await load(store)
    chain = fleet.certify("box", present.key.public_key, days=60)
    await adopt_membership(store, Membership(fleet.anchor, chain), time.time_ns())
    renewed = await load(store)
    assert renewed.key.key_id == present.key.key_id
    assert renewed.member.not_after_utc_ns > present.member.not_after_utc_ns + 50 * DAY_NS


async def test_the_newest_list_of_revoked_keys_survives_a_restart_and_older_ones_do_not_replace_it(
    store: Store,
) -> None:
    fleet = ThrowAwayFleet()
    await adopt_membership(store, await certified(store, fleet), time.time_ns())
    older, newer = fleet.revoke("1" * 32), fleet.revoke("1" * 32, "2" * 32)
    await keep_revocations(store, fleet.name, 2, newer)
    await keep_revocations(store, fleet.name, 1, older)
    trust = (await load(store)).trust
    assert trust.serial == 2
    assert trust.is_revoked("2" * 32)


async def test_lists_of_another_fleet_are_forgotten_with_it(store: Store, tmp_path: Path) -> None:
    await keep_revocations(store, "old", 7, b"list")
    fleet = ThrowAwayFleet()
    await adopt_membership(store, await certified(store, fleet), time.time_ns())
    connection = sqlite3.connect(tmp_path / "q.sqlite3")
    assert connection.execute("SELECT count(*) FROM revocations").fetchone() == (0,)
    connection.close()


async def test_there_is_no_other_level(store: Store) -> None:
    with pytest.raises(QedgeError) as refused:
        await request_identity(store, NewIdentity("fleet", "box", 4), os.urandom)
    assert refused.value.code == "fleet.bad_level"


async def test_nothing_that_describes_an_identity_shows_its_seed(store: Store) -> None:
    identity = await load(store)
    seed = identity.key.seed
    for text in (repr(identity), repr(identity.key), repr(identity.view())):
        assert seed.hex() not in text
        assert repr(seed)[2:-1] not in text
    assert seed not in msgspec.msgpack.encode(identity.view())


async def test_the_password_of_the_private_broker_never_changes(store: Store) -> None:
    first = await broker_password(store, lambda size: "a" * size)
    assert await broker_password(store, lambda size: "b" * size) == first
