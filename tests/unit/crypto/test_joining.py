"""Invitations and tokens: good once, for one fleet, and nobody in between can change a word."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qedge.base.errors import QedgeError
from qedge.cli.fleet.inviting import _Desk
from qedge.crypto.authority import Authority, found
from qedge.crypto.authority_files import AuthorityFolder
from qedge.crypto.certificates import make_request
from qedge.crypto.joining import (
    Invitation,
    check_answer,
    check_request,
    make_answer,
    read_invitation,
    write_invitation,
)
from qedge.crypto.joining import make_request as join_request
from qedge.crypto.keys import generate
from qedge.crypto.model import Role, Subject
from qedge.crypto.trust import pin
from qedge.wire.trust import BrokerAddress, JoinRequest, SigningRequest


class Folder(AuthorityFolder):
    """A folder that only counts."""

    def __init__(self) -> None:
        self.saved = 0

    def save(self, _ledger: object) -> None:
        self.saved += 1

    @contextlib.contextmanager
    def turn(self, authority: Authority) -> Iterator[Authority]:
        before = authority.ledger
        yield authority
        if authority.ledger is not before:
            self.save(authority.ledger)


@pytest.fixture
def authority() -> Authority:
    ledger, _, seed = found("fleet", level=3, utc_ns=time.time_ns(), random_bytes=os.urandom)
    return Authority(ledger, seed)


def invite(authority: Authority, minutes: float = 15) -> Invitation:
    return Invitation(
        "fleet",
        "alpha",
        3,
        BrokerAddress("mqtt://192.0.2.1:1883", "qedge", "hush hush"),
        pin(authority.ledger.anchor),
        os.urandom(8),
        os.urandom(16),
        time.time_ns() + round(minutes * 60e9),
    )


def ask(invitation: Invitation, node: str = "beta") -> JoinRequest:
    key = generate("ml-dsa-65", os.urandom)
    signing = SigningRequest("fleet", node, make_request(Subject("fleet", Role.NODE, node), key))
    return join_request(invitation, signing, os.urandom)


def code(work: object) -> str:
    with pytest.raises(QedgeError) as error:
        work()  # type: ignore[operator]
    return error.value.code


def test_a_line_leads_back_to_its_invitation_and_shows_no_secret(authority: Authority) -> None:
    invitation = invite(authority)
    line = write_invitation(invitation)
    assert read_invitation(f"  {line}\n") == invitation
    assert "\n" not in line
    assert "hush" not in repr(invitation)


@given(text=st.one_of(st.text(max_size=200), st.binary(max_size=100).map(lambda data: "qedge1:" + data.hex())))
def test_what_is_no_invitation_is_refused_without_being_quoted(text: str) -> None:
    with pytest.raises(QedgeError) as error:
        read_invitation(text)
    assert error.value.code == "fleet.bad_invitation"
    assert len(text) < 8 or text not in str(error.value)


def test_a_request_proves_its_invitation_and_nothing_of_it_can_be_changed(authority: Authority) -> None:
    invitation = invite(authority)
    request = ask(invitation)
    check_request(invitation, request, time.time_ns())
    other = ask(invitation)
    for changed in (
        msgspec.structs.replace(request, nonce=bytes(16)),
        msgspec.structs.replace(request, request=other.request),
        msgspec.structs.replace(request, proof=bytes(32)),
        msgspec.structs.replace(request, token=bytes(8)),
    ):
        assert code(lambda changed=changed: check_request(invitation, changed, time.time_ns())) == "fleet.join_refused"
    assert code(lambda: check_request(invite(authority), request, time.time_ns())) == "fleet.join_refused"
    late = invitation.expires_utc_ns + 1
    assert code(lambda: check_request(invitation, request, late)) == "fleet.expired"


def test_an_answer_is_believed_only_from_the_fleet_that_invited(authority: Authority) -> None:
    invitation = invite(authority)
    request = ask(invitation)
    membership = authority.certify(request.request, utc_ns=time.time_ns(), random_bytes=os.urandom)
    answer = make_answer(invitation, request, membership)
    assert check_answer(invitation, request, answer) == membership
    for wrong in (
        msgspec.structs.replace(answer, proof=bytes(32)),
        msgspec.structs.replace(answer, membership=None, code="fleet.expired"),
        make_answer(invite(authority), request, membership),
        make_answer(invitation, ask(invitation), membership),
    ):
        assert code(lambda wrong=wrong: check_answer(invitation, request, wrong)) == "fleet.join_refused"
    ledger, _, seed = found("fleet", level=3, utc_ns=time.time_ns(), random_bytes=os.urandom)
    rogue = Authority(ledger, seed).certify(request.request, utc_ns=time.time_ns(), random_bytes=os.urandom)
    assert (
        code(lambda: check_answer(invitation, request, make_answer(invitation, request, rogue))) == "fleet.join_refused"
    )


def test_a_refusal_carries_its_reason_and_an_unknown_one_stays_a_refusal(authority: Authority) -> None:
    invitation = invite(authority)
    request = ask(invitation)
    for given_code, expected in (("fleet.name_taken", "fleet.name_taken"), ("job.conflict", "fleet.join_refused")):
        answer = make_answer(invitation, request, QedgeError(given_code, "No.", fix="Do."))
        assert code(lambda answer=answer: check_answer(invitation, request, answer)) == expected


def test_the_desk_lets_one_box_in_for_each_line_and_repeats_a_lost_answer(authority: Authority) -> None:
    folder = Folder()
    desk = _Desk(folder, authority, BrokerAddress("mqtt://192.0.2.1:1883"), replace=False)
    invitation = read_invitation(desk.invitation("alpha", 15))
    assert desk.open
    request = ask(invitation)
    name, answer = desk.answer(request)
    assert answer is not None
    assert name == "beta"
    assert check_answer(invitation, request, answer).chain
    assert folder.saved == 1
    assert not desk.open
    assert desk.answer(request)[1] == answer
    again = ask(invitation, "gamma")
    refused = desk.answer(again)[1]
    assert refused is not None
    assert code(lambda: check_answer(invitation, again, refused)) == "fleet.expired"
    assert [entry.node for entry in authority.members()] == ["beta"]


def test_the_desk_gives_strangers_no_answer_and_a_taken_name_its_reason(authority: Authority) -> None:
    desk = _Desk(Folder(), authority, BrokerAddress("mqtt://192.0.2.1:1883"), replace=False)
    first, second = (read_invitation(desk.invitation("alpha", 15)) for _ in range(2))
    assert desk.answer(ask(invite(authority)))[1] is None
    forged = msgspec.structs.replace(ask(first), proof=bytes(32))
    assert desk.answer(forged)[1] is None
    request = ask(first)
    assert desk.answer(request)[1] is not None
    taken = ask(second)
    answer = desk.answer(taken)[1]
    assert answer is not None
    assert code(lambda: check_answer(second, taken, answer)) == "fleet.name_taken"
    assert desk.open  # the line is still good, under another name


def test_lines_that_expired_are_closed(authority: Authority) -> None:
    desk = _Desk(Folder(), authority, BrokerAddress("mqtt://192.0.2.1:1883"), replace=False)
    desk.invitation("alpha", -1)
    assert not desk.open
    assert desk.expired == 1
