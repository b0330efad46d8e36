"""The authority on the operator's machine: sealed, orderly, and careful with names."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path

import pytest

from qedge.base.errors import QedgeError
from qedge.crypto.authority import Authority, found, newest, renew_issuing
from qedge.crypto.authority_files import AuthorityFolder
from qedge.crypto.certificates import make_request
from qedge.crypto.keys import SigningKey, generate
from qedge.crypto.model import Role, Subject
from qedge.crypto.sealed_file import Cost, open_secret, seal_secret
from qedge.crypto.trust import Trust
from qedge.wire.trust import BrokerAddress, SigningRequest

CHEAP = Cost(4, 1, 1)
PASSPHRASE = "correct horse battery"


class Second:
    """Signatures of another family that are only told apart."""

    def keygen(self) -> tuple[bytes, bytes]:
        return b"public", b"secret"

    def sign(self, secret_key: bytes, message: bytes, context: bytes) -> bytes:
        return secret_key + context + message[:4]


def make(level: int = 3) -> Authority:
    ledger, _, seed = found("fleet", level=level, utc_ns=time.time_ns(), random_bytes=os.urandom)
    return Authority(ledger, seed)


def request(node: str, key: SigningKey | None = None, fleet: str = "fleet") -> SigningRequest:
    key = key or generate("ml-dsa-65", os.urandom)
    return SigningRequest(fleet, node, make_request(Subject(fleet, Role.NODE, node), key))


def certify(authority: Authority, asked: SigningRequest, **more: bool) -> str:
    membership = authority.certify(asked, utc_ns=time.time_ns(), random_bytes=os.urandom, **more)
    trust = Trust(membership.anchor, "fleet")
    if membership.revocations:
        trust.take_revocations(membership.revocations, time.time_ns())
    return trust.verify(membership.chain, time.time_ns(), name=asked.node).key_id


def refusal(authority: Authority, asked: SigningRequest) -> str:
    with pytest.raises(QedgeError) as error:
        certify(authority, asked)
    return error.value.code


def test_a_box_that_asks_becomes_a_member_with_broker_and_chain() -> None:
    authority = make()
    address = BrokerAddress("mqtt://192.0.2.1:1883", "u", "a secret word")
    asked = request("box-1")
    membership = authority.certify(asked, utc_ns=time.time_ns(), random_bytes=os.urandom, broker=address)
    assert membership.broker == address
    assert "secret" not in repr(membership)
    assert [entry.node for entry in authority.members()] == ["box-1"]


def test_a_name_belongs_to_one_key_until_it_is_replaced_which_revokes_the_old_one() -> None:
    authority = make()
    first, second = generate("ml-dsa-65", os.urandom), generate("ml-dsa-65", os.urandom)
    certify(authority, request("box", first))
    assert refusal(authority, request("box", second)) == "fleet.name_taken"
    assert certify(authority, request("box", first)) == first.key_id  # a renewal
    assert certify(authority, request("box", second), replace=True) == second.key_id
    trust = Trust(authority.ledger.anchor, "fleet")
    trust.take_revocations(authority.revocations(time.time_ns()), time.time_ns())
    assert trust.is_revoked(first.key_id)
    assert not trust.is_revoked(second.key_id)


def test_requests_that_do_not_fit_are_refused() -> None:
    authority = make()
    assert refusal(authority, request("a", fleet="other")) == "auth.bad_request"
    assert refusal(authority, SigningRequest("fleet", "a", request("b").request)) == "auth.bad_request"
    assert refusal(authority, request("a", generate("ml-dsa-87", os.urandom))) == "auth.bad_request"
    assert refusal(authority, SigningRequest("fleet", "a", b"junk")) == "auth.bad_request"
    assert refusal(authority, request("_authority")) == "fleet.bad_name"


def test_revoking_takes_every_key_of_a_name_and_serials_grow() -> None:
    authority = make()
    key = generate("ml-dsa-65", os.urandom)
    certify(authority, request("a", key))
    assert authority.revocations(time.time_ns()) == b""
    signed = authority.revoke("a", "stolen", time.time_ns())
    trust = Trust(authority.ledger.anchor, "fleet")
    assert trust.take_revocations(signed, time.time_ns())
    assert trust.is_revoked(key.key_id)
    with pytest.raises(QedgeError) as error:
        authority.revoke("a", "again", time.time_ns())
    assert error.value.code == "fleet.no_member"
    # The name is free again for another key.
    assert certify(authority, request("a")) != key.key_id


def test_a_list_signed_anew_is_newer_even_where_nobody_was_revoked() -> None:
    authority = make()
    trust = Trust(authority.ledger.anchor, "fleet")
    for serial, utc_ns in enumerate((10, 20), 1):
        assert trust.take_revocations(authority.relist(utc_ns), utc_ns)
        assert (trust.serial, trust.list_utc_ns, trust.revoked_keys) == (serial, utc_ns, frozenset())


def test_a_new_issuing_key_leaves_old_certificates_good(tmp_path: Path) -> None:
    ledger, root, seed = found("fleet", level=5, utc_ns=time.time_ns(), random_bytes=os.urandom, second=Second())
    assert ledger.anchor.second_signature.startswith(b"secretqedge/v1/anchor")
    folder = AuthorityFolder(tmp_path / "fleet")
    folder.create(ledger, root, seed, PASSPHRASE, os.urandom, CHEAP)
    opened = folder.open_root(PASSPHRASE)
    assert opened == root
    assert root.seed.hex() not in repr(root)
    renewed, new_seed = renew_issuing(ledger, opened, utc_ns=time.time_ns(), random_bytes=os.urandom)
    folder.replace_issuing(renewed, new_seed, PASSPHRASE, os.urandom, CHEAP)
    key = generate("ml-dsa-87", os.urandom)
    assert certify(folder.open(PASSPHRASE), request("a", key)) == key.key_id
    assert certify(Authority(ledger, seed), request("b", key)) == key.key_id


def test_the_folder_is_private_survives_and_is_founded_once(tmp_path: Path) -> None:
    ledger, root, seed = found("fleet", level=3, utc_ns=time.time_ns(), random_bytes=os.urandom)
    folder = AuthorityFolder(tmp_path / "fleets" / "fleet")
    assert not folder.exists
    folder.create(ledger, root, seed, PASSPHRASE, os.urandom, CHEAP)
    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in folder.path.iterdir()} == {0o600}
    authority = folder.open(PASSPHRASE)
    certify(authority, request("a"))
    folder.save(authority.ledger)
    assert [entry.node for entry in newest(folder.ledger())] == ["a"]
    with pytest.raises(QedgeError) as error:
        folder.create(ledger, root, seed, PASSPHRASE, os.urandom, CHEAP)
    assert error.value.code == "fleet.exists"
    for data in folder.path.iterdir():
        assert seed not in data.read_bytes()
        assert root.seed not in data.read_bytes()


def test_a_wrong_passphrase_and_an_altered_file_give_one_error(tmp_path: Path) -> None:
    ledger, root, seed = found("fleet", level=3, utc_ns=time.time_ns(), random_bytes=os.urandom)
    folder = AuthorityFolder(tmp_path)
    folder.create(ledger, root, seed, PASSPHRASE, os.urandom, CHEAP)
    with pytest.raises(QedgeError) as wrong:
        folder.open("incorrect horse")
    assert wrong.value.code == "fleet.bad_passphrase"
    file = folder.path / "issuing.sealed"
    sound = file.read_bytes()
    for place in (0, 2, 3, 4, 5, 6, 25, 40, len(sound) - 1):
        altered = bytearray(sound)
        altered[place] ^= 1
        with pytest.raises(QedgeError) as error:
            open_secret(bytes(altered), PASSPHRASE)
        assert error.value.code == "fleet.bad_passphrase"
    other_ledger, _, other_seed = found("fleet", level=3, utc_ns=time.time_ns(), random_bytes=os.urandom)
    file.write_bytes(seal_secret(other_seed, PASSPHRASE, os.urandom, CHEAP))
    with pytest.raises(QedgeError) as mixed:
        folder.open(PASSPHRASE)
    assert mixed.value.code == "auth.untrusted"
    assert other_ledger.anchor != ledger.anchor


def test_sealing_binds_its_cost_and_refuses_weak_passphrases() -> None:
    sealed = seal_secret(b"a secret", PASSPHRASE, os.urandom, CHEAP)
    assert open_secret(sealed, PASSPHRASE) == b"a secret"
    assert sealed != seal_secret(b"a secret", PASSPHRASE, os.urandom, CHEAP)
    with pytest.raises(QedgeError) as error:
        seal_secret(b"a secret", "short", os.urandom, CHEAP)
    assert error.value.code == "fleet.weak_passphrase"


@pytest.mark.parametrize(("fleet", "level"), [("", 3), ("a b", 3), ("_x", 3), ("fleet", 4)])
def test_fleets_with_impossible_names_or_levels_are_not_founded(fleet: str, level: int) -> None:
    with pytest.raises(QedgeError):
        found(fleet, level=level, utc_ns=0, random_bytes=os.urandom)


def test_an_empty_folder_says_how_to_begin(tmp_path: Path) -> None:
    with pytest.raises(QedgeError) as error:
        AuthorityFolder(tmp_path).open(PASSPHRASE)
    assert error.value.code == "fleet.none"
    assert "init" in error.value.fix


def founded(path: Path) -> AuthorityFolder:
    ledger, root, seed = found("fleet", level=3, utc_ns=time.time_ns(), random_bytes=os.urandom)
    folder = AuthorityFolder(path / "fleet")
    folder.create(ledger, root, seed, PASSPHRASE, os.urandom, CHEAP)
    return folder


def test_a_program_that_stays_open_does_not_undo_what_another_one_wrote(tmp_path: Path) -> None:
    folder = founded(tmp_path)
    stays, comes = folder.open(PASSPHRASE), folder.open(PASSPHRASE)
    with folder.turn(stays):
        certify(stays, request("box-1"))
    with folder.turn(comes):
        comes.revoke("box-1", "stolen", time.time_ns())
    with folder.turn(stays):
        certify(stays, request("box-2"))
    entries = folder.ledger().issued
    assert [(each.node, bool(each.revoked_utc_ns)) for each in entries] == [("box-1", True), ("box-2", False)]


def test_a_turn_that_fails_writes_nothing(tmp_path: Path) -> None:
    folder = founded(tmp_path)
    authority = folder.open(PASSPHRASE)

    def fail() -> None:
        with folder.turn(authority):
            certify(authority, request("box-1"))
            certify(authority, request("box-1"))  # another key for the name

    with pytest.raises(QedgeError):
        fail()
    assert folder.ledger().issued == ()


def test_a_new_issuing_key_is_found_out_by_programs_that_have_the_old_one(tmp_path: Path) -> None:
    folder = founded(tmp_path)
    stays = folder.open(PASSPHRASE)
    folder.reissue(PASSPHRASE, time.time_ns(), os.urandom, CHEAP)
    with pytest.raises(QedgeError) as error, folder.turn(stays):
        pass
    assert error.value.code == "auth.untrusted"
    assert folder.open(PASSPHRASE).fleet == "fleet"


def test_a_chain_that_was_made_is_kept_and_a_damaged_one_is_none(tmp_path: Path) -> None:
    folder = founded(tmp_path)
    assert folder.kept("box") == ()
    folder.keep("box", (b"leaf", b"issuer"))
    assert folder.kept("box") == (b"leaf", b"issuer")
    (folder.path / "renewals" / "box").write_bytes(b"\xff")
    assert folder.kept("box") == ()
