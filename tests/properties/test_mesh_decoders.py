"""Whatever bytes come, every decoder of the mesh answers with a `QedgeError` or a value, and frames never open."""

from __future__ import annotations

import os
import random
import time
from functools import cache

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from qedge.base.errors import QedgeError
from qedge.crypto.certificates import read_request
from qedge.crypto.joining import read_invitation
from qedge.crypto.keys import PublicKey
from qedge.crypto.model import parse_subject
from qedge.crypto.sealed_file import open_secret
from qedge.crypto.session import Secret, SessionKeys
from qedge.crypto.signed import open_signed
from qedge.mesh.parts import Assembler
from qedge.wire.envelope import read_body, take_apart
from qedge.wire.mesh import Birth, Lost, Pulse
from qedge.wire.session import Answer, Call, Hello, Part, Terms
from qedge.wire.trust import JoinAnswer, JoinRequest, Membership, RevocationNotice
from qedge_device.frame import FrameError
from tests.integration.fleet_site import ThrowAwayFleet

TOPIC = "qedge/v1/fleet/a/birth"
BODIES = (Birth, Lost, Pulse, Hello, Terms, Call, Answer, Part, JoinRequest, JoinAnswer, Membership, RevocationNotice)


@cache
def fleet() -> ThrowAwayFleet:
    return ThrowAwayFleet("fleet")


@cache
def chain() -> tuple[bytes, ...]:
    return fleet().member("a")[1]


def mutated(data: bytes) -> st.SearchStrategy[bytes]:
    """Cut, extend and flip bytes of something that was sound."""

    def change(edits: list[tuple[int, int]], cut: int, tail: bytes) -> bytes:
        changed = bytearray(data)
        for place, value in edits:
            changed[place % len(changed)] ^= value
        return bytes(changed[: len(changed) - cut % len(changed)]) + tail

    edits = st.lists(st.tuples(st.integers(0, len(data) - 1), st.integers(1, 255)), max_size=4)
    return st.builds(change, edits, st.integers(0, 40), st.binary(max_size=8))


@given(data=st.binary(max_size=600), body=st.sampled_from(BODIES))
@example(data=b"QE\x01\x00" + bytes(6), body=Birth)
def test_any_bytes_as_an_envelope(data: bytes, body: type[msgspec.Struct]) -> None:
    for prefix in (b"", b"QE\x01\x00", b"QE\x01\x01", b"QE\x01\x02"):
        try:
            envelope = take_apart(prefix + data)
            read_body(envelope, envelope.header.topic, body, 0)
        except QedgeError as error:
            assert error.code == "bus.bad_message"


@given(data=st.binary(max_size=400))
def test_any_bytes_as_a_body_of_a_known_kind(data: bytes) -> None:
    for body in BODIES:
        for payload in (data, b"\x82\xa4type" + data):
            try:
                msgspec.msgpack.decode(payload, type=body)
            except (msgspec.DecodeError, UnicodeDecodeError):
                continue


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_mutated_certificates_are_not_believed_unless_they_are_the_same(data: st.DataObject) -> None:
    leaf, issuing = chain()
    changed = data.draw(st.sampled_from([0, 1]))
    der = data.draw(mutated((leaf, issuing)[changed]))
    both = (der, issuing) if changed == 0 else (leaf, der)
    try:
        member = fleet().trust().verify(both, time.time_ns())
    except QedgeError as error:
        assert error.code in ("auth.untrusted", "auth.bad_key")
    else:
        assert both == chain()
        assert member.subject.name == "a"


@pytest.mark.parametrize("version", [1, 3, 127])
def test_a_certificate_of_an_unknown_version_is_not_believed(version: int) -> None:
    leaf, issuing = chain()
    v3 = bytes.fromhex("a003020102")  # [0] { INTEGER 2 }: X.509 version 3
    assert v3 in leaf
    with pytest.raises(QedgeError) as refused:
        fleet().trust().verify((leaf.replace(v3, v3[:-1] + bytes([version]), 1), issuing), time.time_ns())
    assert refused.value.code in ("auth.untrusted", "auth.bad_key")


@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=300))
def test_any_bytes_as_keys_requests_lists_invitations_and_sealed_files(data: bytes) -> None:
    for work in (
        lambda: PublicKey.from_der(data),
        lambda: read_request(data),
        lambda: fleet().trust().take_revocations(data, 0),
        lambda: read_invitation("qedge1:" + data.hex()),
        lambda: read_invitation(data.decode("latin-1")),
        lambda: open_secret(data, "passphrase"),
        lambda: open_signed(data, TOPIC, Birth, fleet().trust(), 0),
    ):
        with pytest.raises(QedgeError):
            work()


@given(text=st.text(max_size=80))
def test_any_text_as_a_subject_is_none_or_leads_back(text: str) -> None:
    for uri in (text, "qedge://" + text):
        subject = parse_subject(uri)
        assert subject is None or subject.uri == uri


@given(
    parts=st.lists(
        st.builds(Part, st.integers(0, 20), st.integers(0, 6), st.integers(1, 7), st.binary(max_size=50)),
        max_size=60,
    )
)
def test_any_parts_in_any_order_stay_within_their_bound(parts: list[Part]) -> None:
    assembler = Assembler(max_bytes=200)
    for part in parts:
        try:
            whole = assembler.take(part)
        except QedgeError as error:
            assert error.code in ("bus.bad_message", "bus.too_large")
        else:
            assert whole is None or len(whole) <= 200
        assert assembler._held_bytes <= 200


@pytest.mark.parametrize("number", [100_000, pytest.param(1_000_000, marks=pytest.mark.long)])
def test_of_very_many_random_frames_none_is_accepted(number: int) -> None:
    noise = random.Random(4711)
    for suite in (1, 2, 3):
        client, server = (SessionKeys(Secret(suite, b"s" * 16, b"e" * 64, side), "mqtt", 0) for side in (True, False))
        genuine = [client.seal(os.urandom(64), "t", 0) for _ in range(64)]
        opened = 0
        for index in range(number // 3 + 1):
            kind = index % 4
            if kind == 0:
                frame = noise.randbytes(noise.randrange(0, 120))
            elif kind == 1:
                frame = genuine[index % 64][:13] + noise.randbytes(noise.randrange(16, 100))
            elif kind == 2:
                changed = bytearray(genuine[index % 64])
                changed[noise.randrange(len(changed))] ^= 1 << noise.randrange(8)
                frame = bytes(changed)
            else:
                frame = genuine[index % 64][: noise.randrange(0, len(genuine[0]))]
            try:
                server.open(frame, "t")
                opened += 1
            except FrameError:
                continue
        assert opened == 0
        assert [len(server.open(frame, "t")) for frame in genuine] == [64] * 64
