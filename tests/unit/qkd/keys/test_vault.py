"""Key material at rest: what is sealed opens only in its place, and the wrapping key is kept from others."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from qedge.base.errors import QedgeError
from qedge.qkd.keys.commitment import commit, mask
from qedge.qkd.keys.cutting import check_size, is_own, pages_of, plan_cuts
from qedge.qkd.keys.intervals import Intervals
from qedge.qkd.keys.vault import Vault
from qedge.qkd.keys.wrapping import open_vault
from qedge.wire.keys import Cut


def test_a_page_opens_in_its_place_alone_and_no_two_seals_are_alike() -> None:
    vault = Vault(os.urandom(32))
    first, second = (vault.seal_page(b"page", b"here", os.urandom) for _ in range(2))
    assert vault.open_page(*first, b"here") == b"page"
    assert first[1] != second[1]
    for wrapped, sealed, place in ((*first, b"there"), (first[0], second[1], b"here"), (bytes(64), first[1], b"here")):
        with pytest.raises(QedgeError) as error:
            vault.open_page(wrapped, sealed, place)
        assert error.value.code == "qkd.store_damaged"


def test_a_copy_opens_under_its_own_ids_alone() -> None:
    vault = Vault(os.urandom(32))
    sealed = vault.seal_copy(b"key", b"grant", b"id")
    assert vault.open_copy(sealed, b"grant", b"id") == b"key"
    with pytest.raises(QedgeError):
        vault.open_copy(sealed, b"grant", b"other")
    assert vault.fingerprint() != Vault(os.urandom(32)).fingerprint()
    assert repr(vault) == "<vault>"


def test_a_missing_wrapping_key_is_made_once_for_the_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "keys.wrap"
    made = open_vault(path, os.urandom, make=True)
    assert path.stat().st_mode & 0o777 == 0o600
    assert open_vault(path, os.urandom, make=True).fingerprint() == made.fingerprint()


@pytest.mark.parametrize(("size", "mode"), [(31, 0o600), (33, 0o600), (32, 0o640)])
def test_a_wrapping_key_of_the_wrong_size_or_for_others_is_refused(tmp_path: Path, size: int, mode: int) -> None:
    path = tmp_path / "keys.wrap"
    path.write_bytes(bytes(size))
    path.chmod(mode)
    with pytest.raises(QedgeError) as error:
        open_vault(path, os.urandom, make=True)
    assert error.value.code == "qkd.wrong_wrapping_key"


def test_a_wrapping_key_that_was_named_is_never_made(tmp_path: Path) -> None:
    with pytest.raises(QedgeError) as error:
        open_vault(tmp_path / "absent", os.urandom, make=False)
    assert error.value.code == "qkd.wrong_wrapping_key"


def test_a_tag_depends_on_every_bit_and_the_bits_that_mask_it_are_never_given_out() -> None:
    bits = os.urandom(132)
    usable, tag = commit("ab", 1, bits)
    assert usable == bits[:100]
    for place in (0, 99, 100, 131):
        other = bytes(value ^ (index == place) for index, value in enumerate(bits))
        assert commit("ab", 1, other)[1] != tag
    assert mask(mask(b"key", b"pad"), b"pad") == b"key"
    with pytest.raises(ValueError, match="as long"):
        mask(b"key", b"longer")


def test_intervals_hold_each_byte_once() -> None:
    spent = Intervals([(10, 20), (30, 40)])
    assert not spent.add(19, 21)
    assert not spent.add(0, 50)
    assert not spent.add(5, 5)
    assert spent.add(20, 30)
    assert spent.pairs() == [(10, 40)]
    assert list(spent.gaps(50)) == [(0, 10), (40, 50)]
    assert spent.total == 30
    with pytest.raises(ValueError, match="overlap"):
        Intervals([(0, 5), (4, 6)])


def test_cuts_take_the_oldest_first_and_all_or_nothing() -> None:
    blocks = [(2, 10, Intervals([(0, 8)])), (4, 10, Intervals([(3, 5)]))]
    assert plan_cuts(blocks, 6) == (Cut(2, 8, 2), Cut(4, 0, 3), Cut(4, 5, 1))
    assert plan_cuts(blocks, 11) is None
    assert [is_own("a", "b", 0), is_own("a", "b", 1), is_own("b", "a", 0), is_own("b", "a", 1)] == [1, 0, 0, 1]
    assert list(pages_of(6, 17, 8)) == [(0, 6, 8), (1, 0, 8), (2, 0, 1)]


@pytest.mark.parametrize(
    ("number", "bits"), [(0, 64), (1, 0), (1, 12), (1, 8 * 65537), (1025, 8), (100, 8 * 65536), (-1, 64)]
)
def test_sizes_that_cannot_be_had_are_refused(number: int, bits: int) -> None:
    with pytest.raises(QedgeError) as error:
        check_size(number, bits)
    assert error.value.code == "qkd.bad_key_size"
    assert check_size(3, 64) == 8
