"""Only chains that lead to the anchor of the fleet, now, for the right name and use, are believed."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from qedge.base.errors import QedgeError
from qedge.crypto.certificates import make_issuing, make_leaf, make_request, read_request
from qedge.crypto.keys import PublicKey, SigningKey, generate
from qedge.crypto.model import Role, Subject, parse_subject
from qedge.crypto.trust import Trust, pin
from qedge.wire.trust import Anchor
from tests.integration.fleet_site import ThrowAwayFleet

DAY_NS = 86_400 * 10**9


@pytest.fixture(scope="module")
def fleet() -> ThrowAwayFleet:
    return ThrowAwayFleet("fleet")


def refusal(fleet: ThrowAwayFleet, chain: tuple[bytes, ...], utc_ns: int = 0, **wanted: object) -> str:
    with pytest.raises(QedgeError) as error:
        fleet.trust().verify(chain, utc_ns or time.time_ns(), **wanted)  # type: ignore[arg-type]
    return error.value.code


def odd_leaf(fleet: ThrowAwayFleet, uris: list[str], *, ca: bool = False, purposes: bool = True) -> tuple[bytes, ...]:
    """Certify something that `make_leaf` would not."""
    key = generate("ml-dsa-65", os.urandom)
    issuing = x509.load_der_x509_certificate(fleet.issuing)
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "odd")]))
    builder = builder.issuer_name(issuing.subject).public_key(key.public_key.library).serial_number(7)
    builder = builder.not_valid_before(now - timedelta(hours=1)).not_valid_after(now + timedelta(days=1))
    builder = builder.add_extension(x509.BasicConstraints(ca, None), critical=True)
    usage = [True, False, False, False, False, ca, False, False, False]
    builder = builder.add_extension(x509.KeyUsage(*usage), critical=True)
    if uris:
        names = [x509.UniformResourceIdentifier(uri) for uri in uris]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    if purposes:
        both = [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
        builder = builder.add_extension(x509.ExtendedKeyUsage(both), critical=False)
    certificate = builder.sign(fleet.issuing_key.library, None)
    return certificate.public_bytes(serialization.Encoding.DER), fleet.issuing


def test_a_member_is_believed_with_its_name_key_and_time(fleet: ThrowAwayFleet) -> None:
    key, chain = fleet.member("box-1")
    member = fleet.trust().verify(chain, time.time_ns(), name="box-1")
    assert member.subject == Subject("fleet", Role.NODE, "box-1")
    assert (member.key_id, member.algorithm) == (key.key_id, "ml-dsa-65")
    assert 29 * DAY_NS < member.not_after_utc_ns - time.time_ns() <= 30 * DAY_NS


def test_the_same_names_under_another_authority_are_not_believed(fleet: ThrowAwayFleet) -> None:
    other = ThrowAwayFleet("fleet")
    assert refusal(fleet, other.member("box-1")[1]) == "auth.untrusted"
    _, (leaf, _) = other.member("box-1")
    assert refusal(fleet, (leaf, fleet.issuing)) == "auth.untrusted"
    assert refusal(fleet, (fleet.member("box-1")[1][0], other.issuing)) == "auth.untrusted"


def test_time_name_role_and_fleet_have_to_fit(fleet: ThrowAwayFleet) -> None:
    _, chain = fleet.member("box-1")
    now = time.time_ns()
    assert refusal(fleet, chain, now + 31 * DAY_NS) == "auth.untrusted"
    assert refusal(fleet, chain, now - DAY_NS) == "auth.untrusted"
    assert refusal(fleet, chain, name="box-2") == "auth.untrusted"
    assert refusal(fleet, chain, role=Role.OPERATOR) == "auth.untrusted"
    assert refusal(fleet, fleet.member("box-1", fleet="other")[1]) == "auth.untrusted"
    assert refusal(fleet, fleet.member("box-1", role=Role.DEVICE)[1]) == "auth.untrusted"


def test_a_clock_that_is_a_little_behind_does_no_harm(fleet: ThrowAwayFleet) -> None:
    _, chain = fleet.member("box-1")
    assert fleet.trust().verify(chain, time.time_ns() - 4 * 60 * 10**9)


@pytest.mark.parametrize(
    ("uris", "more"),
    [
        ([], {}),
        (["qedge://fleet/node/a", "qedge://fleet/node/b"], {}),
        (["https://fleet/node/a"], {}),
        (["qedge://fleet/node/a/b"], {}),
        (["qedge://fleet/root/a"], {}),
        (["qedge://fleet/node/a"], {"ca": True}),
        (["qedge://fleet/node/a"], {"purposes": False}),
    ],
)
def test_odd_certificates_of_the_right_issuer_are_not_believed(
    fleet: ThrowAwayFleet, uris: list[str], more: dict[str, bool]
) -> None:
    assert refusal(fleet, odd_leaf(fleet, uris, **more)) == "auth.untrusted"


def test_chains_of_another_shape_are_not_believed(fleet: ThrowAwayFleet) -> None:
    _, (leaf, issuing) = fleet.member("a")
    for chain in (
        (),
        (leaf,),
        (leaf, issuing, fleet.root),
        (issuing, fleet.root),
        (issuing, issuing),
        (leaf, fleet.root),
    ):
        assert refusal(fleet, chain) == "auth.untrusted"
    key, (own, _) = fleet.member("issuer")
    below = make_leaf(Subject("fleet", Role.NODE, "b"), key.public_key, own, key, time.time_ns(), 9, os.urandom)
    assert refusal(fleet, (below, own)) == "auth.untrusted"


def test_certificates_of_a_former_issuing_key_stay_good(fleet: ThrowAwayFleet) -> None:
    key = generate("ml-dsa-65", os.urandom)
    root = fleet.root, fleet.root_key
    issuing = make_issuing("fleet", key.public_key, *root, time.time_ns(), os.urandom, 30)
    leaf = make_leaf(Subject("fleet", Role.NODE, "new"), key.public_key, issuing, key, time.time_ns(), 9, os.urandom)
    trust = fleet.trust()
    assert trust.verify((leaf, issuing), time.time_ns()).subject.name == "new"
    assert trust.verify(fleet.member("old")[1], time.time_ns()).subject.name == "old"


def test_revoked_keys_stay_revoked_and_lists_only_grow(fleet: ThrowAwayFleet) -> None:
    home = ThrowAwayFleet("fleet")
    key, chain = home.member("a")
    trust = home.trust()
    first, second = home.revoke(key.key_id), home.revoke("0" * 32)
    assert trust.take_revocations(first, time.time_ns())
    with pytest.raises(QedgeError) as error:
        trust.verify(chain, time.time_ns())
    assert error.value.code == "auth.revoked"
    assert trust.take_revocations(second, time.time_ns())
    assert not trust.take_revocations(first, time.time_ns())
    assert trust.is_revoked(key.key_id)
    for forged in (fleet.revoke(key.key_id), b"", b"\x80", first[:-1]):
        with pytest.raises(QedgeError):
            ThrowAwayFleet("fleet").trust().take_revocations(forged, time.time_ns())


def test_an_anchor_that_is_none_is_refused_and_its_pin_covers_all_of_it(fleet: ThrowAwayFleet) -> None:
    for root in (fleet.issuing, fleet.member("a")[1][0], b"junk"):
        with pytest.raises(QedgeError):
            Trust(Anchor("fleet", root), "fleet")
    with pytest.raises(QedgeError):
        Trust(fleet.anchor, "other")
    pins = {pin(fleet.anchor), pin(Anchor("fleet", fleet.root, "x")), pin(Anchor("fleet", fleet.root, "x", b"k", b"s"))}
    assert len(pins) == 3


def test_a_request_proves_its_key_and_names_one_subject() -> None:
    key = generate("ml-dsa-65", os.urandom)
    subject = Subject("fleet", Role.NODE, "a")
    request = make_request(subject, key)
    read, public = read_request(request)
    assert (read, public.key_id) == (subject, key.key_id)
    for wrong in (b"", request[:-1], request[:-1] + bytes([request[-1] ^ 1]), bytes(20_000)):
        with pytest.raises(QedgeError) as error:
            read_request(wrong)
        assert error.value.code == "auth.bad_request"


def test_keys_come_from_their_seed_and_sign_for_one_purpose_only() -> None:
    key = generate("ml-dsa-87", os.urandom)
    again = SigningKey.from_seed("ml-dsa-87", key.seed)
    assert again.key_id == key.key_id == PublicKey.from_der(key.public_key.der).key_id
    signature = key.sign(b"m", "one")
    again.public_key.verify(signature, b"m", "one")
    for message, purpose in ((b"m", "other"), (b"n", "one")):
        with pytest.raises(QedgeError) as error:
            key.public_key.verify(signature, message, purpose)
        assert error.value.code == "auth.bad_signature"
    assert key.seed.hex() not in repr(key)
    for algorithm, seed in (("ml-dsa-65", b"short"), ("ed25519", bytes(32))):
        with pytest.raises(QedgeError):
            SigningKey.from_seed(algorithm, seed)


@pytest.mark.parametrize(
    "uri", ["", "qedge://a/node", "qedge://a/node/b?x", "QEDGE://a/node/b", "qedge://a/node/" + "x" * 37]
)
def test_uris_that_are_not_exactly_ours_name_nobody(uri: str) -> None:
    assert parse_subject(uri) is None
