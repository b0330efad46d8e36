"""Whatever happens in whatever order at two ends, no bit is used twice, lost from the account, or unequal."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from functools import partial

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from qedge.base.errors import QedgeError
from qedge.qkd.keys import exchange
from qedge.qkd.keys.model import DeliverableKey, Draft, Wanted
from qedge.wire.keys import KeyBlocks, KeyBlocksCompared, KeyReserve, KeyVoid
from tests.unit.qkd.keys.key_site import SMALL, LedgerNode, LedgerPair, tell_blocks, tell_voids


class Accounting(RuleBasedStateMachine):
    """Two ends and the messages between them, each of which may come late, twice or never."""

    def __init__(self) -> None:
        super().__init__()
        self.pair = LedgerPair(limits=replace(SMALL, block_wait_ns=10**15))
        self.pair.grow(200)
        self.pair.grow(200)
        self.drafts: list[tuple[LedgerNode, LedgerNode, Draft]] = []
        self.confirmed: set[bytes] = set()
        self.masters: dict[str, DeliverableKey] = {}
        self.slaves: dict[str, DeliverableKey] = {}
        self.used: set[tuple[int, int]] = set()

    def ends(self, turned: bool) -> tuple[LedgerNode, LedgerNode]:
        return (self.pair.b, self.pair.a) if turned else (self.pair.a, self.pair.b)

    @rule(size=st.integers(32, 400))
    def grow(self, size: int) -> None:
        self.pair.grow(size)

    @rule(turned=st.booleans(), size=st.integers(33, 100))
    def lose_a_block_at_one_end(self, turned: bool, size: int) -> None:
        one, other = self.ends(turned)
        one.add("ab", other.name, self.pair.next, self.pair.dice.randbytes(size + 32))
        self.pair.next += 1

    @rule(turned=st.booleans(), number=st.integers(1, 4), size=st.integers(1, 40))
    def reserve(self, turned: bool, number: int, size: int) -> None:
        one, other = self.ends(turned)
        before = one.status().account
        try:
            draft = one.reserve(Wanted(other.name, "m", ("s",), number, size))
        except QedgeError as error:
            assert error.code == "qkd.too_few_bits"
            assert before.own < 8 * number * size
            return
        assert before.own - one.status().account.own == 8 * number * size
        for cut in draft.messages[0][1].cuts:
            places = {(cut.block, place) for place in range(cut.start, cut.start + cut.size)}
            assert not places & self.used
            self.used |= places
        self.drafts.append((one, other, draft))

    @precondition(lambda self: self.drafts)
    @rule(data=st.data())
    def deliver_a_grant(self, data: st.DataObject) -> None:
        one, other, draft = data.draw(st.sampled_from(self.drafts))
        outcome = other.do(partial(exchange.take_over, peer=one.name, message=KeyReserve((draft.messages[0][1],))))
        if outcome.outcomes == ("",):
            self.confirmed.add(draft.grant_id)

    @precondition(lambda self: self.drafts)
    @rule(data=st.data())
    def hand_over(self, data: st.DataObject) -> None:
        one, _, draft = data.draw(st.sampled_from(self.drafts))
        if draft.grant_id not in self.confirmed:
            return
        try:
            keys = one.hand_over(draft)
        except QedgeError as error:
            assert error.code == "qkd.out_of_step"
            return
        for key in keys:
            assert key.key_id not in self.masters
            self.masters[key.key_id] = key

    @precondition(lambda self: self.drafts)
    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        one, _, draft = data.draw(st.sampled_from(self.drafts))
        one.do(lambda ledger: ledger.give_up(draft.grant_id))

    @rule(turned=st.booleans(), told=st.booleans())
    def deliver_voids(self, turned: bool, told: bool) -> None:
        one, other = self.ends(turned)
        owed = one.do(lambda ledger: ledger.book.owed_voids(other.name, 100))
        other.do(lambda ledger: exchange.void_for(ledger, one.name, KeyVoid(owed)))
        if told:
            one.do(lambda ledger: ledger.book.void_told(other.name, owed))

    @precondition(lambda self: self.masters)
    @rule(data=st.data())
    def collect(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.masters.values(), key=lambda each: each.key_id)))
        other = self.pair.b if key.provenance.path[0] == "a" else self.pair.a
        try:
            copies = other.collect("s", "m", key.key_id)
        except QedgeError:
            assert key.key_id in self.slaves
            return
        assert copies == [key]
        assert key.key_id not in self.slaves
        self.slaves[key.key_id] = key

    @rule(turned=st.booleans(), answered=st.booleans())
    def compare(self, turned: bool, answered: bool) -> None:
        one, other = self.ends(turned)
        said = one.do(lambda ledger: exchange.notes(ledger, "ab", 0))
        answer = other.do(lambda ledger: exchange.compare(ledger, one.name, said))
        if answered:
            one.do(lambda ledger: exchange.learn(ledger, other.name, said, answer))

    @invariant()
    def accounts_balance(self) -> None:
        for node in (self.pair.a, self.pair.b):
            account = node.status().account
            assert account.balanced
            held = node.connection.execute("SELECT size, spent FROM blocks").fetchall()
            left = sum(size - sum(end - start for start, end in msgspec.msgpack.decode(spent)) for size, spent in held)
            assert 8 * left == account.waiting + account.own + account.theirs

    def teardown(self) -> None:
        a, b = self.pair.a, self.pair.b
        self.pair.grow(32)  # of a block that only one end has, the other says so once it has a later one
        for one, _, draft in self.drafts:
            one.do(partial(_give_up, draft=draft))
        for one, other in ((a, b), (b, a)) * 2:
            tell_voids(one, other)
            tell_blocks(one, other)
        assert a.status().account.own == b.status().account.theirs
        assert b.status().account.own == a.status().account.theirs
        assert a.status().account.waiting == b.status().account.waiting == 0


def _give_up(ledger: object, draft: Draft) -> None:
    ledger.give_up(draft.grant_id)  # type: ignore[attr-defined]  # a ledger


TestAccounting = Accounting.TestCase
TestAccounting.settings = settings(
    max_examples=8,
    stateful_step_count=40,
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@dataclass(order=True)
class Flight:
    """A message under way."""

    due_ns: int
    serial: int
    to: str
    body: object


class Weather:
    """Two ledgers on a virtual clock; between them messages are lost, doubled and overtake each other."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.pair = LedgerPair(seed=seed)
        self.nodes = {"a": self.pair.a, "b": self.pair.b}
        self.air: list[Flight] = []
        self.serial = 0
        self.drafts: dict[bytes, tuple[str, Draft, int]] = {}
        self.given: dict[str, list[bytes]] = {}
        self.loss = 0.2

    def send(self, to: str, body: object) -> None:
        for _ in range(self.dice.choice((1, 1, 1, 2))):
            if self.dice.random() > self.loss:
                self.serial += 1
                due_ns = self.pair.clock.now_ns() + self.dice.randrange(1, 2_000_000_000)
                self.air.append(Flight(due_ns, self.serial, to, body))

    def step(self, busy: bool) -> None:
        name = self.dice.choice("ab")
        other = "b" if name == "a" else "a"
        if busy and self.dice.random() < 0.3:
            self.grow()
        if busy:
            try:
                draft = self.nodes[name].reserve(Wanted(other, "m", ("s",), 2, 16))
            except QedgeError:
                pass
            else:
                self.drafts[draft.grant_id] = (name, draft, self.pair.clock.now_ns() + 3_000_000_000)
                self.send(other, KeyReserve((draft.messages[0][1],)))
        self.send(other, self.nodes[name].do(lambda ledger: exchange.notes(ledger, "ab", 0)))
        owed = self.nodes[name].do(lambda ledger: ledger.book.owed_voids(other, 100))
        self.send(other, KeyVoid(owed))
        self.pair.clock.advance_s(0.3)
        self.land()
        for grant_id, (master, _, limit_ns) in list(self.drafts.items()):
            if limit_ns < self.pair.clock.now_ns():
                self.nodes[master].do(partial(_give_up_id, grant_id=grant_id))
                del self.drafts[grant_id]

    def grow(self) -> None:
        bits = self.dice.randbytes(300)
        for name, other in (("a", "b"), ("b", "a")):
            if self.dice.random() > 0.1:  # a crash kept the block from one end
                self.nodes[name].add("ab", other, self.pair.next, bits)
        self.pair.next += 1

    def land(self) -> None:
        due = sorted(flight for flight in self.air if flight.due_ns <= self.pair.clock.now_ns())
        self.air = [flight for flight in self.air if flight.due_ns > self.pair.clock.now_ns()]
        for flight in due:
            self.take(flight.to, "b" if flight.to == "a" else "a", flight.body)

    def take(self, name: str, sender: str, body: object) -> None:
        node = self.nodes[name]
        match body:
            case KeyReserve():
                outcome = node.do(partial(exchange.take_over, peer=sender, message=body)).outcomes[0]
                self.send(sender, (body.grants[0].id, outcome))
            case KeyVoid():
                node.do(partial(exchange.void_for, peer=sender, message=body))
                self.send(sender, ("voided", body.grants))
            case KeyBlocks():
                try:
                    self.send(sender, (body, node.do(partial(exchange.compare, peer=sender, message=body))))
                except QedgeError as error:
                    assert error.code == "qkd.no_link"
            case (KeyBlocks() as said, KeyBlocksCompared() as answer):
                node.do(partial(exchange.learn, peer=sender, sent=said, answer=answer))
            case ("voided", tuple() as voids):
                node.do(lambda ledger: ledger.book.void_told(sender, voids))
            case (bytes() as grant_id, str() as outcome):
                entry = self.drafts.pop(grant_id, None)
                if entry is not None and outcome:
                    node.do(partial(_give_up_id, grant_id=grant_id))
                elif entry is not None:
                    for key in node.hand_over(entry[1]):
                        assert key.key_id not in self.given
                        self.given[key.key_id] = [key.key]
                        self.given[key.key_id] += [
                            copy.key for copy in self.nodes[sender].collect("s", "m", key.key_id)
                        ]


def _give_up_id(ledger: object, grant_id: bytes) -> None:
    ledger.give_up(grant_id)  # type: ignore[attr-defined]  # a ledger


@pytest.mark.parametrize(
    "seed", [1, 2, pytest.param(3, marks=pytest.mark.long), pytest.param(4, marks=pytest.mark.long)]
)
def test_two_stores_over_a_bad_network_never_give_unequal_keys_and_end_in_step(
    seed: int, request: pytest.FixtureRequest
) -> None:
    weather = Weather(seed)
    for _ in range(1500 if request.node.get_closest_marker("long") else 150):
        weather.step(busy=True)
    weather.pair.grow(32)  # of a block that only one end has, the other says so once it has a later one
    weather.loss = 0.0
    for _ in range(40):
        weather.step(busy=False)
    assert len(weather.given) > 20
    assert all(len(keys) == 2 and keys[0] == keys[1] for keys in weather.given.values())
    assert len({keys[0] for keys in weather.given.values()}) == len(weather.given)
    one, other = weather.pair.a.status().account, weather.pair.b.status().account
    assert one.balanced
    assert other.balanced
    assert (one.own, one.theirs, one.waiting, one.in_flight) == (other.theirs, other.own, 0, 0)
    assert (other.waiting, other.in_flight) == (0, 0)
    assert one.delivered == other.delivered == len(weather.given) * 128
