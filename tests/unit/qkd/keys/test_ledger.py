"""The rules of the key store, step by step: who gets what, how often, and what is left of it."""

from __future__ import annotations

import uuid
from dataclasses import replace

import msgspec
import pytest

from qedge.base.errors import QedgeError
from qedge.qkd.keys import exchange, upkeep
from qedge.qkd.keys.model import SESSION_SAE, Constraints, Wanted
from qedge.wire.keys import KeyReserve, KeyVoid, Origin, VoidGrant
from tests.unit.qkd.keys.key_site import SMALL, LedgerNode, LedgerPair, carry, compare, tell_blocks, tell_voids

ASK = Wanted("b", "alice", ("bob",), 1, 32)


def code(error: pytest.ExceptionInfo[QedgeError]) -> str:
    return error.value.code


def delivered(pair: LedgerPair, wanted: Wanted = ASK, *others: LedgerNode) -> list[str]:
    draft = pair.a.reserve(wanted)
    assert carry(draft, pair.a, pair.b, *others) == [""] * len(draft.messages)
    return [key.key_id for key in pair.a.hand_over(draft)]


def test_both_sides_get_the_same_key_with_the_same_record_each_once() -> None:
    pair = LedgerPair(blocks=2)
    draft = pair.a.reserve(replace(ASK, number=3))
    assert carry(draft, pair.a, pair.b) == [""]
    keys = pair.a.hand_over(draft)
    assert b"".join(key.key for key in keys) == pair.bits[0][:96]
    assert len({uuid.UUID(key.key_id) for key in keys}) == 3
    assert {uuid.UUID(key.key_id).version for key in keys} == {4}
    copies = pair.b.collect("bob", "alice", *(key.key_id for key in keys))
    assert copies == keys
    record = keys[0].provenance
    assert (record.origin, record.hops, record.simulated, record.bits) == (Origin.DIRECT, 0, True, 256)
    assert (record.link_blocks, record.path, record.eps_total) == (("ab/0",), ("a", "b"), 1.1e-10)
    assert (record.master, record.slaves) == ("alice", ("bob",))
    with pytest.raises(QedgeError) as error:
        pair.b.collect("bob", "alice", keys[1].key_id)
    assert code(error) == "qkd.key_not_found"
    with pytest.raises(QedgeError) as error:
        pair.a.hand_over(draft)
    assert code(error) == "qkd.out_of_step"


def test_the_lower_name_cuts_from_even_blocks_and_the_higher_from_odd_ones() -> None:
    pair = LedgerPair(blocks=2)
    from_a = pair.a.reserve(ASK)
    from_b = pair.b.reserve(Wanted("a", "bob", ("alice",), 1, 32))
    assert from_a.keys[0][1] == pair.bits[0][:32]
    assert from_b.keys[0][1] == pair.bits[1][:32]
    assert carry(from_a, pair.a, pair.b) == carry(from_b, pair.b, pair.a) == [""]


def test_every_bit_is_in_one_place_of_the_account_and_both_ends_agree() -> None:
    pair = LedgerPair(blocks=4, size=100)
    delivered(pair, replace(ASK, number=5))  # 160 bytes: all of block 0 and part of block 2
    lost = pair.a.reserve(ASK)
    pair.a.do(lambda ledger: ledger.give_up(lost.grant_id))
    tell_voids(pair.a, pair.b)
    one, other = pair.a.status().account, pair.b.status().account
    assert one.balanced
    assert other.balanced
    assert one.added == 4 * 132 * 8
    assert (one.delivered, one.voided, one.own, one.theirs) == (160 * 8, 32 * 8, 8 * 8, 200 * 8)
    assert (other.delivered, other.voided, other.own, other.theirs) == (160 * 8, 32 * 8, 200 * 8, 8 * 8)


def test_a_key_may_be_cut_from_two_blocks_and_has_the_epsilons_of_both() -> None:
    pair = LedgerPair(blocks=3, size=40)
    draft = pair.a.reserve(replace(ASK, number=2))
    assert draft.provenance.link_blocks == ("ab/0", "ab/2")
    assert draft.provenance.eps_sec == pytest.approx(2e-10)
    assert carry(draft, pair.a, pair.b) == [""]
    assert draft.keys[1][1] == pair.bits[0][32:40] + pair.bits[2][:24]


def test_where_too_little_is_there_nothing_is_taken() -> None:
    pair = LedgerPair(blocks=1, size=100)
    before = pair.a.status()
    with pytest.raises(QedgeError) as error:
        pair.a.reserve(replace(ASK, number=4))
    assert code(error) == "qkd.too_few_bits"
    assert pair.a.status() == before
    with pytest.raises(QedgeError) as error:
        pair.a.reserve(replace(ASK, peer="z"))
    assert code(error) == "qkd.no_link"


def test_the_reserve_is_for_sessions_and_authentication_alone() -> None:
    pair = LedgerPair(blocks=1, size=100, limits=replace(SMALL, reserve_bits=800))
    assert pair.a.status().deliverable_bits == 0
    with pytest.raises(QedgeError):
        pair.a.reserve(ASK)
    assert pair.a.reserve(Wanted("b", SESSION_SAE, (SESSION_SAE,), 1, 32)).keys


def test_keys_wait_until_both_ends_know_that_they_have_the_same_block() -> None:
    pair = LedgerPair()
    bits = bytes(range(100)) + bytes(32)
    pair.a.add("ab", "b", 0, bits)
    with pytest.raises(QedgeError) as error:
        pair.a.reserve(ASK)
    assert code(error) == "qkd.too_few_bits"
    pair.b.add("ab", "a", 0, bits)
    tell_blocks(pair.b, pair.a)
    assert pair.a.reserve(ASK).keys[0][1] == bits[:32]


def test_blocks_that_differ_or_are_at_one_end_only_are_destroyed_at_both() -> None:
    pair = LedgerPair(blocks=1)
    pair.a.add("ab", "b", 1, bytes(64))
    pair.b.add("ab", "a", 1, bytes(63) + b"\1")
    pair.a.add("ab", "b", 2, bytes(64))  # the peer never gets this one
    pair.b.add("ab", "a", 3, bytes(64))  # nor this node that one
    pair.b.add("ab", "a", 4, bytes(64))
    pair.a.add("ab", "b", 4, bytes(64))
    tell_blocks(pair.a, pair.b)
    tell_blocks(pair.b, pair.a)
    for node in (pair.a, pair.b):
        account = node.status().account
        assert account.balanced
        assert account.discarded == 2 * 32 * 8
        assert account.own + account.theirs == (1000 + 32) * 8


def test_what_one_end_says_of_its_blocks_tells_nothing_of_them_and_is_bound_to_link_and_number() -> None:
    pair = LedgerPair(blocks=1)
    note = pair.a.do(lambda ledger: exchange.notes(ledger, "ab", 0)).notes[0]
    assert note.tag == pair.b.do(lambda ledger: exchange.notes(ledger, "ab", 0)).notes[0].tag
    assert len(note.tag) == 16
    again = LedgerPair()
    again.grow(32)
    again.a.add("ab", "b", 1, pair.bits[0])
    assert again.a.do(lambda ledger: exchange.notes(ledger, "ab", 1)).notes[0].tag != note.tag


def test_blocks_are_numbered_upwards_and_a_full_store_makes_distillation_wait() -> None:
    pair = LedgerPair(blocks=2, size=1000, limits=replace(SMALL, capacity_bits=17_000))
    for number in (0, 1):
        with pytest.raises(QedgeError) as error:
            pair.a.add("ab", "b", number, bytes(64))
        assert code(error) == "qkd.bad_block"
    assert not pair.a.status().full
    pair.grow()
    assert pair.a.status().full
    with pytest.raises(QedgeError) as error:
        pair.a.add("ab", "b", 9, bytes(64))
    assert code(error) == "qkd.store_full"
    with pytest.raises(QedgeError) as error:
        pair.a.add("ab", "c", 9, bytes(64))
    assert code(error) == "qkd.bad_block"


def test_where_one_end_alone_asks_for_keys_the_half_of_the_other_does_not_starve_it() -> None:
    pair = LedgerPair(limits=replace(SMALL, capacity_bits=10 * 8000))
    for _ in range(60):
        number = pair.grow()
        if number % 2 == 0:
            delivered(pair, replace(ASK, key_bytes=1000))
    for node in (pair.a, pair.b):
        status = node.status()
        assert status.account.balanced
        assert status.account.delivered == 30 * 8000
        assert status.account.own + status.account.theirs <= 10 * 8000
        assert status.account.discarded == 0
    assert pair.b.status().account.own == pair.a.status().account.theirs
    draft = pair.b.reserve(Wanted("a", "bob", ("alice",), 1, 32))
    assert carry(draft, pair.b, pair.a) == [""]


def test_where_nobody_asks_for_keys_none_are_destroyed_to_make_room() -> None:
    pair = LedgerPair(limits=replace(SMALL, capacity_bits=10 * 8000))
    for _ in range(10):
        pair.grow()
    assert pair.a.status().full
    with pytest.raises(QedgeError) as error:
        pair.grow()
    assert code(error) == "qkd.store_full"
    assert pair.a.status().account.expired == 0


def test_a_grant_that_comes_again_is_confirmed_again_and_another_one_under_its_id_is_not() -> None:
    pair = LedgerPair(blocks=2)
    draft = pair.a.reserve(ASK)
    assert [carry(draft, pair.a, pair.b) for _ in range(3)] == [[""]] * 3
    changed = msgspec.structs.replace(draft.messages[0][1], slaves=("mallory",))
    outcome = pair.b.do(lambda ledger: exchange.take_over(ledger, "a", KeyReserve((changed,))))
    assert outcome.outcomes == ("qkd.out_of_step",)
    assert pair.b.status().account.delivered == 256


def test_a_void_that_overtakes_its_grant_keeps_it_from_ever_being_taken_over() -> None:
    pair = LedgerPair(blocks=2)
    draft = pair.a.reserve(ASK)
    pair.a.do(lambda ledger: ledger.give_up(draft.grant_id))
    tell_voids(pair.a, pair.b)
    assert carry(draft, pair.a, pair.b) == ["qkd.out_of_step"]
    tell_voids(pair.a, pair.b)
    assert pair.b.status().account.voided == pair.a.status().account.voided == 256


def test_a_void_after_its_grant_destroys_the_copy_however_often_it_comes() -> None:
    pair = LedgerPair(blocks=2)
    draft = pair.a.reserve(ASK)
    carry(draft, pair.a, pair.b)
    pair.a.do(lambda ledger: ledger.give_up(draft.grant_id))
    owed = pair.a.do(lambda ledger: ledger.book.owed_voids("b", 10))
    for _ in range(2):
        pair.b.do(lambda ledger: exchange.void_for(ledger, "a", KeyVoid(owed)))
    assert carry(draft, pair.a, pair.b) == ["qkd.out_of_step"]  # the grant again, late: its keys are gone
    key_id = str(uuid.UUID(bytes=draft.keys[0][0]))
    with pytest.raises(QedgeError) as error:
        pair.b.collect("bob", "alice", key_id)
    assert code(error) == "qkd.key_not_found"
    assert pair.b.status().account.voided == 256


def test_a_void_that_names_another_link_touches_neither_account() -> None:
    pair = LedgerPair(blocks=2)
    pair.b.do(lambda ledger: ledger.open_link("ab2", "a"))
    draft = pair.a.reserve(ASK)
    assert carry(draft, pair.a, pair.b) == [""]
    before = pair.b.status(), pair.b.status("ab2")
    void = VoidGrant(draft.grant_id, "ab2", ())
    pair.b.do(lambda ledger: exchange.void_for(ledger, "a", KeyVoid((void,))))
    assert (pair.b.status(), pair.b.status("ab2")) == before
    ids = [key.key_id for key in pair.a.hand_over(draft)]
    assert len(pair.b.collect("bob", "alice", *ids)) == 1


def test_a_peer_cannot_cut_from_the_wrong_half_nor_twice_nor_void_what_is_not_its_own() -> None:
    pair = LedgerPair(blocks=2)
    grant = pair.a.reserve(ASK).messages[0][1]
    own = pair.b.reserve(Wanted("a", "bob", ("alice",), 1, 32))
    stolen = msgspec.structs.replace(grant, cuts=own.messages[0][1].cuts, tags=own.messages[0][1].tags)
    doubled = msgspec.structs.replace(grant, cuts=(grant.cuts[0],) * 2, key_bytes=64)
    fresh = msgspec.structs.replace(stolen, cuts=(msgspec.structs.replace(stolen.cuts[0], start=500),))
    far = msgspec.structs.replace(grant, cuts=(msgspec.structs.replace(grant.cuts[0], start=990),))
    for bad in (stolen, fresh, doubled, far, msgspec.structs.replace(grant, tags=(bytes(16),))):
        outcome = pair.b.do(lambda ledger, bad=bad: exchange.take_over(ledger, "a", KeyReserve((bad,))))
        assert outcome.outcomes == ("qkd.out_of_step",)
    assert pair.b.status().account.delivered == 0
    with pytest.raises(QedgeError) as error:
        pair.b.do(lambda ledger: exchange.compare(ledger, "c", pair.a.do(lambda one: exchange.notes(one, "ab", 0))))
    assert code(error) == "qkd.no_link"
    own_void = exchange.VoidGrant(own.grant_id, "ab", own.messages[0][1].cuts)
    pair.b.do(lambda ledger: exchange.void_for(ledger, "a", KeyVoid((own_void,))))
    assert pair.b.hand_over(own)


def test_a_peer_cannot_void_over_its_own_link_what_another_peer_granted() -> None:
    pair = LedgerPair(blocks=2)
    draft = pair.a.reserve(ASK)
    assert carry(draft, pair.a, pair.b) == [""]
    pair.b.do(lambda ledger: ledger.open_link("bc", "c"))
    void = exchange.VoidGrant(draft.grant_id, "bc", ())
    pair.b.do(lambda ledger: exchange.void_for(ledger, "c", KeyVoid((void,))))
    keys = pair.a.hand_over(draft)
    assert pair.b.collect("bob", "alice", keys[0].key_id) == keys


def test_strangers_are_refused_whether_the_key_is_there_or_gone_and_poison_their_batch() -> None:
    pair = LedgerPair(blocks=2)
    mine, other = delivered(pair, replace(ASK, number=2))
    assert pair.b.collect("bob", "alice", mine)
    for asked in ((mine,), (other,), (other, str(uuid.uuid4()))):
        with pytest.raises(QedgeError) as error:
            pair.b.collect("eve", "alice", *asked)
        assert code(error) == "qkd.key_not_yours"
    for slave, master, asked in (
        ("bob", "carol", (other,)),
        ("bob", "alice", (other, str(uuid.uuid4()))),
        ("bob", "alice", (other, other)),
        ("bob", "alice", (other, "no id")),
    ):
        with pytest.raises(QedgeError) as error:
            pair.b.collect(slave, master, *asked)
        assert code(error) == "qkd.key_not_found"
    with pytest.raises(QedgeError) as error:
        pair.a.collect("alice", "alice", other)
    assert code(error) == "qkd.key_not_yours"
    assert pair.b.collect("bob", "alice", other.upper())


def test_each_of_several_slaves_gets_its_copy_once_wherever_it_is() -> None:
    pair = LedgerPair(blocks=2)
    c = LedgerNode("c", pair.clock)
    pad = bytes(range(256))
    for one, other in ((pair.a, c), (c, pair.a)):
        one.add("ac", other.name, 0, pad)
    tell_blocks(c, pair.a, "ac")
    wanted = Wanted("b", "alice", ("bob", "bert"), 2, 32, elsewhere=(("c", ("carol",)), ("a", ("anna",))))
    draft = pair.a.reserve(wanted)
    assert pair.a.do(lambda ledger: ledger.book.find(draft.grant_id)).state.value == "in relay"
    assert carry(draft, pair.a, pair.b, c) == ["", ""]
    keys = pair.a.hand_over(draft)
    ids = [key.key_id for key in keys]
    for node, slave in ((pair.b, "bob"), (pair.b, "bert"), (c, "carol"), (pair.a, "anna")):
        assert node.collect(slave, "alice", *ids) == keys
        with pytest.raises(QedgeError):
            node.collect(slave, "alice", ids[0])
    record = keys[0].provenance
    assert (record.origin, record.hops, record.path) == (Origin.RELAYED, 1, ("a", "b", "c"))
    assert record.link_blocks == ("ab/0", "ac/0")
    assert record.eps_sec == pytest.approx(2e-10)
    for node in (pair.a, c):
        account = node.status("ac").account
        assert account.balanced
        assert account.delivered == (64 + 32) * 8  # the keys, and the key of their authentication
    relayed = {peer: grant for peer, grant, _ in draft.messages}["c"]
    assert relayed.pad != b"".join(key.key for key in keys)
    assert bytes(a ^ b for a, b in zip(relayed.pad, pad, strict=False)) == b"".join(key.key for key in keys)


def test_a_relayed_key_that_was_altered_on_the_way_is_refused_and_its_bits_are_burnt() -> None:
    pair = LedgerPair(blocks=1)
    c = LedgerNode("c", pair.clock)
    for one, other in ((pair.a, c), (c, pair.a)):
        one.add("ac", other.name, 0, bytes(range(200)))
    tell_blocks(c, pair.a, "ac")
    draft = pair.a.reserve(replace(ASK, elsewhere=(("c", ("carol",)),)))
    good = {peer: grant for peer, grant, _ in draft.messages}["c"]
    for bad in (
        msgspec.structs.replace(good, pad=bytes((good.pad[0] ^ 1,)) + good.pad[1:]),
        msgspec.structs.replace(good, slaves=("mallory",)),
    ):
        outcome = c.do(lambda ledger, bad=bad: exchange.take_over(ledger, "a", KeyReserve((bad,))))
        assert outcome.outcomes == ("qkd.out_of_step",)
    assert c.status("ac").account.voided == 64 * 8
    pair.a.do(lambda ledger: ledger.give_up(draft.grant_id))
    tell_voids(pair.a, c)
    tell_voids(pair.a, pair.b)
    assert c.status("ac").account == replace(pair.a.status("ac").account, own=0, theirs=c.status("ac").account.theirs)


def test_a_program_may_ask_for_keys_that_stay_at_its_own_node_and_the_peer_destroys_the_bits() -> None:
    pair = LedgerPair(blocks=1)
    draft = pair.a.reserve(Wanted("b", "alice", (), 1, 32, elsewhere=(("a", ("alice",)),)))
    assert carry(draft, pair.a, pair.b) == [""]
    key = pair.a.hand_over(draft)[0]
    assert key.provenance.trusted_nodes == ("a", "b")
    assert pair.a.collect("alice", "alice", key.key_id) == [key]
    assert pair.b.status().account.delivered == 256
    with pytest.raises(QedgeError) as error:
        pair.b.collect("bob", "alice", key.key_id)
    assert code(error) == "qkd.key_not_found"


def test_what_was_delivered_or_destroyed_is_nowhere_in_the_database() -> None:
    pair = LedgerPair(blocks=2, size=40_000)
    wanted = replace(ASK, number=100)
    ids = delivered(pair, wanted)
    key = pair.b.collect("bob", "alice", *ids)[0].key
    for node in (pair.a, pair.b):
        assert key not in node.dump()
        assert pair.bits[0][5000:5032] not in node.dump()  # not in the clear at all
        shelf_holds = node.do(lambda ledger: ledger.shelf._page(("ab", 0, 0)))
        assert bytes(shelf_holds[:3200]) == bytes(3200)
        assert bytes(shelf_holds[3200:6400]) == pair.bits[0][3200:6400]


def test_consumed_data_keys_and_copies_leave_no_trace_in_the_file() -> None:
    pair = LedgerPair(blocks=1, size=16_384)
    data_key, sealed = pair.b.connection.execute("SELECT data_key, sealed FROM pages").fetchone()
    draft = pair.a.reserve(ASK)
    carry(draft, pair.a, pair.b)
    copy = pair.b.connection.execute("SELECT sealed FROM keys").fetchone()[0]
    assert copy in pair.b.dump()
    pair.b.collect("bob", "alice", str(uuid.UUID(bytes=draft.keys[0][0])))
    for shred in (data_key, sealed[:512], sealed[-512:], copy):
        assert shred not in pair.b.dump()


def test_old_blocks_and_keys_expire_by_the_key_clock_and_stay_dead() -> None:
    pair = LedgerPair(blocks=2)
    first, second = delivered(pair, replace(ASK, number=2))
    pair.clock.advance_s(86_399)
    pair.b.expire()
    assert pair.b.collect("bob", "alice", first)
    pair.clock.step_utc_s(-1e6)
    pair.clock.advance_s(2)
    pair.b.expire()
    with pytest.raises(QedgeError) as error:
        pair.b.collect("bob", "alice", second)
    assert code(error) == "qkd.key_not_found"
    pair.clock.advance_s(604_800)
    pair.a.expire()
    pair.b.expire()
    assert pair.a.status().account.own == pair.b.status().account.theirs == 0
    assert pair.a.status().account == replace(pair.b.status().account)


def test_a_block_that_the_peer_does_not_get_in_time_is_destroyed() -> None:
    pair = LedgerPair()
    pair.a.add("ab", "b", 0, bytes(64))
    pair.clock.advance_s(121)
    pair.a.expire()
    assert pair.a.status().account.discarded == 256
    pair.b.add("ab", "a", 0, bytes(64))
    tell_blocks(pair.b, pair.a)
    assert pair.b.status().account.discarded == 256


def test_an_alarm_destroys_all_key_of_the_link_that_nobody_has_yet() -> None:
    pair = LedgerPair(blocks=2)
    key_id = delivered(pair)[0]
    burnt = pair.b.do(lambda ledger: upkeep.quarantine(ledger, "ab"))
    assert burnt == (2000 - 32) * 8
    assert pair.b.status().account.balanced
    with pytest.raises(QedgeError):
        pair.b.collect("bob", "alice", key_id)


def test_an_alarm_reaches_keys_that_are_about_to_be_handed_over() -> None:
    pair = LedgerPair(blocks=2)
    draft = pair.a.reserve(ASK)
    assert carry(draft, pair.a, pair.b) == [""]
    pair.a.do(lambda ledger: upkeep.quarantine(ledger, "ab"))
    with pytest.raises(QedgeError) as error:
        pair.a.hand_over(draft)
    assert code(error) == "qkd.out_of_step"
    tell_voids(pair.a, pair.b)
    assert pair.a.status().account.voided == pair.b.status().account.voided == 256
    assert pair.a.status().account.in_flight == 0


def test_requests_that_demand_what_is_not_there_take_nothing() -> None:
    pair = LedgerPair(blocks=1)
    pair.clock.advance_s(10)
    for constraints in (
        Constraints(route="relayed"),
        Constraints(max_age_s=5),
        Constraints(allow_simulated=False),
        Constraints(min_security="perfect"),
    ):
        with pytest.raises(QedgeError) as error:
            pair.a.reserve(replace(ASK, constraints=constraints))
        assert code(error) == "qkd.unmeetable"
    assert pair.a.status().account.own == 8000
    assert pair.a.reserve(replace(ASK, constraints=Constraints(route="direct", max_age_s=11, min_security="its")))


def test_consumers_are_metered_by_link_and_role() -> None:
    pair = LedgerPair(blocks=2)
    pair.b.collect("bob", "alice", *delivered(pair, replace(ASK, number=3)))
    assert [(each.consumer, each.role, each.keys, each.bits) for each in pair.a.do(lambda x: x.accounts.usages())] == [
        ("alice", "master", 3, 768)
    ]
    assert [(each.consumer, each.role, each.keys, each.bits) for each in pair.b.do(lambda x: x.accounts.usages())] == [
        ("bob", "slave", 3, 768)
    ]


def test_after_a_restart_what_was_not_handed_over_is_given_up() -> None:
    pair = LedgerPair(blocks=2)
    lost, kept = pair.a.reserve(ASK), pair.a.reserve(ASK)
    carry(lost, pair.a, pair.b)
    assert pair.a.do(lambda ledger: ledger.give_up_all_but(frozenset({kept.grant_id}))) == 1
    tell_voids(pair.a, pair.b)
    assert carry(kept, pair.a, pair.b) == [""]
    assert pair.a.hand_over(kept)
    assert pair.b.status().account.voided == pair.a.status().account.voided == 256


def test_tombstones_are_few_and_old_ones_go() -> None:
    pair = LedgerPair(blocks=4, limits=replace(SMALL, max_tombstones=2, tombstone_ns=10**9))
    for _ in range(4):
        delivered(pair)
    assert pair.a.do(upkeep.forget) == 2
    pair.clock.advance_s(2)
    assert pair.a.do(upkeep.forget) == 2
    assert pair.a.do(upkeep.forget) == 0


def test_comparing_blocks_leaves_alone_what_a_grant_under_way_has_the_last_bits_of() -> None:
    pair = LedgerPair(blocks=1, size=64)
    draft = pair.a.reserve(replace(ASK, number=2))
    tell_blocks(pair.a, pair.b)
    tell_blocks(pair.b, pair.a)
    assert carry(draft, pair.a, pair.b) == [""]
    assert len(pair.a.hand_over(draft)) == 2
    assert pair.b.status().account.discarded == 0


def test_a_late_list_of_blocks_does_no_harm() -> None:
    pair = LedgerPair(blocks=2)
    said = pair.a.do(lambda ledger: exchange.notes(ledger, "ab", 0))
    pair.grow()
    delivered(pair, replace(ASK, number=31, key_bytes=32))
    compare(pair.a, pair.b, said)
    assert pair.a.status().account.own == pair.b.status().account.theirs
    assert pair.b.status().account.discarded == 0
