"""Whatever stands in a file or comes over the wire: decoders of the security room read it or refuse it, no more."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qedge.security.audit.row import START, asked, denied, open_line, seal
from qedge.security.model import Action, Decision, Reason, Resource, ResourceKind, Subject, SubjectKind
from qedge.security.trust.account import Account
from qedge.security.words import plain
from qedge.wire.audit import AuditKind, AuditRow
from qedge.wire.incidents import IncidentBoard

WORDS = st.text(max_size=300)
SUBJECTS = st.builds(
    Subject,
    id=WORDS,
    kind=st.sampled_from(SubjectKind),
    device_class=WORDS,
    groups=st.frozensets(WORDS, max_size=40),
    attributes=st.dictionaries(WORDS, WORDS, max_size=40),
    segment=WORDS,
    location=WORDS,
    posture=st.frozensets(WORDS, max_size=40),
)


@given(SUBJECTS, WORDS)
def test_whatever_is_denied_makes_one_line_that_is_read_back(subject: Subject, name: str) -> None:
    resource = Resource(ResourceKind.SEGMENT, name, name, name)
    request = denied(asked(subject), Action.PUBLISH, resource, Decision(False, Reason.NO_RULE, name[:48]), 1, 2)
    line, digest = seal(AuditRow(1, 2, AuditKind.DENIAL, START, subject=plain(subject.id, 120), request=request))
    assert line.count(b"\n") == 1
    row = open_line(line[:-1])
    assert (row.hash, row.request) == (digest, request)


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_a_line_with_any_byte_changed_is_refused(place: int, change: int) -> None:
    line, _ = seal(AuditRow(7, 2, AuditKind.ACT, START, subject="meter", action="release", facts={"n": 1}))
    altered = bytearray(line[:-1])
    altered[place % len(altered)] ^= change
    with pytest.raises(ValueError, match=r"row|read|altered"):
        open_line(bytes(altered))


@given(st.binary(max_size=400))
def test_garbage_is_no_row_no_account_and_no_board(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"row|read|altered"):
        open_line(data)
    try:
        account = Account.unpack(data, 0, 10**18, 5.0)
    except ValueError:
        pass
    else:
        assert len(list(account.rows())) <= 12
    with pytest.raises(msgspec.DecodeError):
        msgspec.msgpack.decode(data, type=IncidentBoard)


@given(st.text(max_size=500, alphabet=st.characters()), st.integers(1, 300))
def test_plain_words_print_and_are_bounded(text: str, limit: int) -> None:
    made = plain(text, limit)
    assert len(made) <= limit
    assert made == "" or made.isprintable()
    assert len(made.splitlines()) <= 1
