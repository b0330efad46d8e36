"""Operators: certified with roles, believed for what they sign, and revoked like any member."""

from __future__ import annotations

import os
import time
from pathlib import Path

import msgspec
import pytest

from qedge.base.errors import QedgeError
from qedge.crypto.authority import Authority, newest
from qedge.crypto.certificates import make_request
from qedge.crypto.keys import generate
from qedge.crypto.model import Role, Subject
from qedge.crypto.operator_files import OperatorIdentity, read_operator, write_operator
from qedge.crypto.operators import (
    approve,
    enrol_operator,
    name_of,
    pack_order,
    peek_request,
    sign_request,
    verify_approval,
    verify_request,
)
from qedge.crypto.trust import Trust
from qedge.wire.commands import CommandOrder, CommandRequest, OperatorRole, command_topic
from qedge.wire.envelope import decode
from qedge.wire.trust import SigningRequest
from tests.unit.crypto.test_authority import CHEAP, PASSPHRASE, make

ID = "01a2246a-6fcc-7d9f-829a-ff8a1f1967df"
NOW_NS = time.time_ns() + 3600 * 10**9  # certificates of this run count by then, however long it takes to get here
REQUEST = CommandRequest(ID, "fleet", "box", "drain", 1, NOW_NS, NOW_NS + 10**12)
WHERE = command_topic("fleet", "box", ID)


def code_of(error: pytest.ExceptionInfo[QedgeError]) -> str:
    return error.value.code


@pytest.fixture(scope="module")
def authority() -> Authority:
    return make()


@pytest.fixture(scope="module")
def trust(authority: Authority) -> Trust:
    return Trust(authority.ledger.anchor, "fleet")


def test_an_operator_has_the_roles_of_the_certificate_and_a_node_has_none(authority: Authority, trust: Trust) -> None:
    may = (OperatorRole.VIEWER, OperatorRole.SECURITY)
    key, chain = enrol_operator(authority, "olga", may, utc_ns=NOW_NS, random_bytes=os.urandom)
    member = trust.verify(chain, NOW_NS, role=Role.OPERATOR, name="olga")
    assert (member.roles, member.key_id) == (frozenset(may), key.key_id)
    with pytest.raises(QedgeError, match="olga"):
        trust.verify(chain, NOW_NS)
    node_key = generate("ml-dsa-65", os.urandom)
    asked = SigningRequest("fleet", "olga", make_request(Subject("fleet", Role.NODE, "olga"), node_key))
    membership = authority.certify(asked, utc_ns=NOW_NS, random_bytes=os.urandom)
    assert trust.verify(membership.chain, NOW_NS).roles == frozenset()
    with pytest.raises(QedgeError, match="certificate is of"):
        trust.verify(membership.chain, NOW_NS, role=Role.OPERATOR)


def test_names_of_operators_and_nodes_are_apart_in_the_ledger(authority: Authority) -> None:
    _, chain = enrol_operator(authority, "box-7", [OperatorRole.VIEWER], utc_ns=NOW_NS, random_bytes=os.urandom)
    assert name_of(chain) == "box-7"
    assert "box-7" in [each.node for each in newest(authority.ledger, Role.OPERATOR)]
    assert "box-7" not in [each.node for each in authority.members()]
    with pytest.raises(QedgeError) as error:
        authority.revoke("box-7", "", NOW_NS)
    assert code_of(error) == "fleet.no_member"


def test_a_name_is_one_persons_until_it_is_replaced_or_revoked(authority: Authority) -> None:
    enrol_operator(authority, "tim", [OperatorRole.VIEWER], utc_ns=NOW_NS, random_bytes=os.urandom)
    with pytest.raises(QedgeError) as error:
        enrol_operator(authority, "tim", [OperatorRole.VIEWER], utc_ns=NOW_NS, random_bytes=os.urandom)
    assert code_of(error) == "fleet.name_taken"
    _, chain = enrol_operator(
        authority, "tim", [OperatorRole.VIEWER], utc_ns=NOW_NS, random_bytes=os.urandom, replace=True
    )
    mine = Trust(authority.ledger.anchor, "fleet")
    mine.take_revocations(authority.revoke("tim", "left", NOW_NS, role=Role.OPERATOR), NOW_NS)
    with pytest.raises(QedgeError) as error:
        mine.verify(chain, NOW_NS, role=Role.OPERATOR)
    assert code_of(error) == "auth.revoked"


@pytest.mark.parametrize(
    ("name", "may", "role"),
    [("_root", ["viewer"], Role.OPERATOR), ("olaf", [], Role.OPERATOR), ("olaf", ["viewer"], Role.NODE)],
)
def test_a_request_that_is_none_of_an_operator_is_not_certified(
    authority: Authority, name: str, may: list[str], role: Role
) -> None:
    asked = SigningRequest("fleet", name, make_request(Subject("fleet", role, name), generate("ml-dsa-65", os.urandom)))
    with pytest.raises(QedgeError) as error:
        authority.certify_operator(
            asked, [OperatorRole(each) for each in may], days=1, utc_ns=NOW_NS, random_bytes=os.urandom
        )
    assert code_of(error) in ("fleet.bad_name", "auth.bad_request")


def test_an_operator_whose_certificate_has_expired_is_not_believed(authority: Authority, trust: Trust) -> None:
    key, chain = enrol_operator(
        authority, "short", [OperatorRole.VIEWER], utc_ns=NOW_NS, random_bytes=os.urandom, days=1
    )
    signed = sign_request(REQUEST, key, chain)
    assert verify_request(signed, WHERE, trust, NOW_NS)[0] == REQUEST
    with pytest.raises(QedgeError, match="expired"):
        verify_request(signed, WHERE, trust, NOW_NS + 2 * 86_400 * 10**9)


def test_what_is_signed_and_approved_is_believed_as_it_was_signed(authority: Authority, trust: Trust) -> None:
    key, chain = enrol_operator(authority, "anna", [OperatorRole.SECURITY], utc_ns=NOW_NS, random_bytes=os.urandom)
    second, other = enrol_operator(authority, "bert", [OperatorRole.SECURITY], utc_ns=NOW_NS, random_bytes=os.urandom)
    signed = sign_request(REQUEST, key, chain)
    approval = approve(signed, second, other)
    _, order = decode(pack_order(CommandOrder(signed, (approval,))), WHERE, CommandOrder, NOW_NS)
    assert peek_request(order.signed, WHERE)[1] == REQUEST
    request, member = verify_request(order.signed, WHERE, trust, NOW_NS)
    assert (request, member.subject.name) == (REQUEST, "anna")
    assert verify_approval(order.approvals[0], signed, trust, NOW_NS).subject.name == "bert"
    for bad in (signed[:-1] + bytes([signed[-1] ^ 1]), sign_request(REQUEST, key, chain)):
        with pytest.raises(QedgeError) as error:
            verify_approval(approval, bad, trust, NOW_NS)
        assert code_of(error) == "auth.bad_signature"
    with pytest.raises(QedgeError) as error:
        verify_approval(msgspec.structs.replace(approval, operator="anna"), signed, trust, NOW_NS)
    assert code_of(error) == "auth.untrusted"


def test_nobody_but_an_operator_signs_requests(authority: Authority) -> None:
    key = generate("ml-dsa-65", os.urandom)
    asked = SigningRequest("fleet", "nn", make_request(Subject("fleet", Role.NODE, "nn"), key))
    chain = authority.certify(asked, utc_ns=NOW_NS, random_bytes=os.urandom).chain
    for wrong in (chain, (), (b"no certificate",)):
        with pytest.raises(QedgeError) as error:
            sign_request(REQUEST, key, wrong)
        assert code_of(error) == "auth.untrusted"


def test_the_file_of_an_operator_opens_with_its_passphrase_alone(authority: Authority, tmp_path: Path) -> None:
    key, chain = enrol_operator(authority, "file", [OperatorRole.VIEWER], utc_ns=NOW_NS, random_bytes=os.urandom)
    identity = OperatorIdentity("fleet", "file", key.algorithm, key.seed, chain, authority.ledger.anchor)
    path = tmp_path / "deep" / "file.operator"
    write_operator(path, identity, PASSPHRASE, os.urandom, CHEAP)
    assert read_operator(path, PASSPHRASE) == identity
    assert identity.key.key_id == key.key_id
    assert key.seed.hex() not in repr(identity)
    assert path.stat().st_mode & 0o077 == 0
    with pytest.raises(QedgeError) as error:
        read_operator(path, "another passphrase")
    assert code_of(error) == "fleet.bad_passphrase"
    with pytest.raises(QedgeError) as error:
        read_operator(tmp_path / "none", PASSPHRASE)
    assert code_of(error) == "fleet.folder"
