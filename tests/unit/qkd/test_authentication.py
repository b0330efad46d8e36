"""Tags and pads: what is authentic, what it costs, and that nothing is used twice."""

from __future__ import annotations

import random

import pytest

from qedge.base.errors import QedgeError
from qedge.qkd.authentication.stock import BLOCK_BITS, SEED_BLOCKS, KeyStocks, stock_bytes
from qedge.qkd.authentication.tags import Transcript, forgery_bound

SEED = bytes(range(32))


def transcript(*messages: bytes) -> Transcript:
    said = Transcript(b"context")
    for message in messages:
        said.add(message)
    return said


def test_a_tag_holds_for_the_same_messages_in_the_same_order_and_place_only() -> None:
    key = KeyStocks(SEED, "l").take(0, 0).sealed
    tag = transcript(b"ab", b"c").tag(key, b"sealed")
    assert transcript(b"ab", b"c").agrees(key, b"sealed", tag)
    for other in (transcript(b"a", b"bc"), transcript(b"c", b"ab"), transcript(b"abc"), transcript(b"ab", b"c", b"")):
        assert not other.agrees(key, b"sealed", tag)
    assert not transcript(b"ab", b"c").agrees(key, b"accepted", tag)


def test_the_bound_on_forgery_is_that_of_poly1305() -> None:
    assert forgery_bound(16 * 1024) == pytest.approx(8 * 1024 * 2.0**-106)
    assert forgery_bound(4 << 20) < 1e-24


def test_directions_have_keys_of_their_own_and_every_block_has_fresh_ones() -> None:
    stocks = KeyStocks(SEED, "l")
    seen = set()
    for index in range(SEED_BLOCKS):
        pads = stocks.take(0, index)
        assert pads.announced[:16] == pads.accepted[:16] != pads.sealed[:16]
        seen |= {pads.announced[16:], pads.accepted[16:], pads.sealed[16:], pads.receipt}
    assert len(seen) == 4 * SEED_BLOCKS


def test_both_ends_hold_the_same_and_other_links_something_else() -> None:
    assert KeyStocks(SEED, "l").take(0, 3) == KeyStocks(SEED, "l").take(0, 3)
    assert KeyStocks(SEED, "l").take(0, 3) != KeyStocks(SEED, "m").take(0, 3)


def test_pads_are_used_once_and_those_passed_over_are_burnt() -> None:
    stocks = KeyStocks(SEED, "l")
    stocks.take(0, 2)
    assert stocks.burnt_bits == 3 * BLOCK_BITS
    for index in (0, 2, SEED_BLOCKS):
        with pytest.raises(QedgeError, match="pads"):
            stocks.take(0, index)
    assert stocks.burnt_bits == 3 * BLOCK_BITS
    stocks.pass_over(0, 10)
    assert stocks.next_place() == (0, 10)
    assert stocks.burnt_bits == 10 * BLOCK_BITS


def test_distilled_key_takes_the_place_of_the_seed_and_is_used_to_its_end() -> None:
    stocks = KeyStocks(SEED, "l")
    assert not stocks.is_distilled
    stocks.take(0, 0)
    stocks.add(7, b"\1" * stock_bytes(2))
    stocks.add(9, b"\2" * stock_bytes(2))
    assert [stocks.next_place()] == [(7, 0)]
    stocks.take(7, 0)
    assert stocks.is_distilled
    assert stocks.burnt_bits == 2 * BLOCK_BITS
    stocks.take(7, 1)
    assert stocks.next_place() == (9, 0)
    assert stocks.left == 2
    with pytest.raises(QedgeError):
        stocks.take(0, 5)


def test_kept_stocks_go_on_where_they_were_and_give_no_pad_twice() -> None:
    first, again = KeyStocks(SEED, "l"), KeyStocks(SEED[::-1], "l")
    first.add(7, random.Random(1).randbytes(2048))
    before = first.changes
    used = first.take(7, 1)
    assert first.changes > before
    again.restore(first.kept())
    assert again.next_place() == (7, 2)
    with pytest.raises(QedgeError, match="used before"):
        again.take(7, 1)
    assert again.kept()[0].material.count(used.receipt) == first.kept()[0].material.count(used.receipt) == 0
    assert again.take(7, 2) == first.take(7, 2)
    assert "material" not in repr(first.kept())
    assert not KeyStocks(SEED, "l").kept()


def test_a_stock_that_was_used_up_leaves_a_restarted_end_the_pads_of_its_seed() -> None:
    first = KeyStocks(SEED, "link")
    first.add(7, random.Random(2).randbytes(stock_bytes(2)))
    for index in range(2):
        first.take(7, index)
    again = KeyStocks(SEED, "link")
    again.restore(first.kept())
    assert again.next_place() == (0, 0)
    assert again.left == SEED_BLOCKS


def test_pads_come_to_an_end() -> None:
    stocks = KeyStocks(SEED, "l")
    stocks.take(0, SEED_BLOCKS - 1)
    assert stocks.left == 0
    with pytest.raises(QedgeError):
        stocks.next_place()


def test_there_is_no_link_without_a_seed() -> None:
    with pytest.raises(QedgeError) as caught:
        KeyStocks(b"short", "l")
    assert caught.value.code == "qkd.no_seed"


def test_pads_do_not_show_in_what_is_printed() -> None:
    pads = KeyStocks(SEED, "l").take(0, 0)
    assert repr(pads) == "BlockPads()"
