"""The envelope: what was written once stays readable, and what is no envelope has no effect."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from qedge.base.errors import QedgeError
from qedge.wire.envelope import MAX_BYTES, Header, SealKind, decode, encode, purpose_of
from qedge.wire.gateway import DeviceRevocations, RevokedDevice, SignedByNode
from qedge.wire.load import NodeLoad
from qedge.wire.mesh import Birth, Capability, Lost, Ping, Pong, Pulse
from qedge.wire.policy import PolicyBundle, PolicyNotice, SignedPolicy
from qedge.wire.session import Answer, Call, Hello, Part
from qedge.wire.trust import RevocationNotice

GOLDEN = Path(__file__).parent / "golden"
UTC_NS = 1_800_000_000_000_000_000
TOPIC = "qedge/v1/local/box-1/ping"


def header(purpose: str, topic: str = TOPIC, **changes: object) -> Header:
    plain = Header(topic, "box-1", 7, purpose, UTC_NS, UTC_NS + 30_000_000_000)
    return msgspec.structs.replace(plain, **changes)


ID = bytes(range(16))
CAPABILITY = Capability("qpu", "qpu", "sim_qpu", "1.0", True, {"num_qubits": 20, "preset": "plan", "exact": True})
BUNDLE = PolicyBundle("fleet", 7, UTC_NS, UTC_NS + 86_400_000_000_000, b"version = 1\n")
REVOKED = DeviceRevocations("fleet", "box-1", UTC_NS, UTC_NS, (RevokedDevice("pump-7", ID, 1_800_000_000),))
CASES: dict[str, tuple[Header, msgspec.Struct]] = {
    "ping-1": (header("mesh-ping/1"), Ping(bytes(range(16)))),
    "pong-1": (header("mesh-pong/1", "qedge/v1/local/box-2/reply"), Pong(bytes(range(16)))),
    "birth-1": (
        header("birth/1", "qedge/v1/local/box-1/birth", expires_utc_ns=0),
        Birth(
            "local",
            "box-1",
            "0.1.0",
            "2f5b0a3e-7f6f-4d0c-9a53-000000000000",
            3,
            UTC_NS,
            True,
            "up",
            capabilities=(CAPABILITY,),
        ),
    ),
    "birth-1-leaving": (
        header("birth/1", "qedge/v1/local/box-1/birth", expires_utc_ns=0),
        Birth("local", "box-1", "0.1.0", "", 0, 0, False, "leaving"),
    ),
    "birth-1-with-pulse": (
        header("birth/1", "qedge/v1/fleet/box-1/birth", expires_utc_ns=0),
        Birth("fleet", "box-1", "0.2.0", "b", 4, UTC_NS, False, "up", ID, 400, bytes(32), 1024, 3, (CAPABILITY,)),
    ),
    "birth-1-with-serials-and-labels": (
        header("birth/1", "qedge/v1/fleet/box-1/birth", expires_utc_ns=0),
        Birth(
            "fleet",
            "box-1",
            "0.4.0",
            "b",
            4,
            UTC_NS,
            False,
            "up",
            ID,
            400,
            bytes(32),
            1024,
            3,
            (CAPABILITY,),
            7,
            UTC_NS,
            ("roof", "gpu"),
        ),
    ),
    "birth-1-with-the-serial-of-the-configuration": (
        header("birth/1", "qedge/v1/fleet/box-1/birth", expires_utc_ns=0),
        Birth(
            "fleet",
            "box-1",
            "0.4.0",
            "b",
            4,
            UTC_NS,
            False,
            "up",
            ID,
            400,
            bytes(32),
            1024,
            3,
            (CAPABILITY,),
            7,
            UTC_NS,
            ("roof", "gpu"),
            12,
        ),
    ),
    "signed-by-node-1": (
        header("signed-by-node/1", "qedge/v1/fleet/box-1/devices-revoked", expires_utc_ns=0),
        SignedByNode(msgspec.msgpack.encode(REVOKED), b"signature", (b"leaf", b"issuer")),
    ),
    "node-load-1": (
        header("node-load/1", "qedge/v1/fleet/box-2/sealed"),
        NodeLoad(4, 17, 2, 1, (0, 1, 30), (0.0, 0.25, 12.5), 2**30, 0.5, "degraded", "temperature degraded", True),
    ),
    "pulse-1": (header("pulse/1", "qedge/v1/fleet/box-1/pulse"), Pulse(4, ID, 17, bytes(range(32)))),
    "lost-1": (header("lost/1", "qedge/v1/fleet/box-1/lost"), Lost(4, ID)),
    "hello-1": (header("hello/1", "qedge/v1/fleet/box-2/hello"), Hello(ID, 1, b"records")),
    "call-1": (header("call/1", "qedge/v1/fleet/box-2/sealed"), Call(9, "mesh-ping/1", 2.5, b"body")),
    "answer-1": (header("answer/1", "qedge/v1/fleet/box-2/sealed"), Answer(9, "mesh-pong/1", b"body")),
    "part-1": (header("part/1", "qedge/v1/fleet/box-2/sealed"), Part(3, 0, 2, b"first half")),
    "revocation-notice-1": (
        header("revocation-notice/1", "qedge/v1/fleet/_authority/revoked"),
        RevocationNotice(b"signed"),
    ),
    "policy-notice-1": (
        header("policy-notice/1", "qedge/v1/fleet/_authority/policy"),
        PolicyNotice(msgspec.msgpack.encode(SignedPolicy(msgspec.msgpack.encode(BUNDLE), b"signature", b"issuer"))),
    ),
}
OLDER = {"birth-1", "birth-1-leaving", "birth-1-with-pulse", "birth-1-with-serials-and-labels"}
"""Written before births had all they have: still read, and written with more fields now."""


@pytest.mark.parametrize("name", CASES)
def test_golden_files_are_read_and_written_as_ever(name: str) -> None:
    head, body = CASES[name]
    golden = (GOLDEN / f"{name}.bin").read_bytes()
    assert decode(golden, head.topic, type(body), UTC_NS) == (head, body)
    assert encode(head, body) == golden or name in OLDER


def test_the_bundle_in_a_golden_policy_is_read_as_ever() -> None:
    _, notice = decode(
        (GOLDEN / "policy-notice-1.bin").read_bytes(), CASES["policy-notice-1"][0].topic, PolicyNotice, 0
    )
    outer = msgspec.msgpack.decode(notice.signed, type=SignedPolicy)
    assert (outer.signature, outer.issuer) == (b"signature", b"issuer")
    assert msgspec.msgpack.decode(outer.body, type=PolicyBundle) == BUNDLE


def test_the_list_in_a_golden_list_of_revoked_devices_is_read_as_ever() -> None:
    head, _ = CASES["signed-by-node-1"]
    _, signed = decode((GOLDEN / "signed-by-node-1.bin").read_bytes(), head.topic, SignedByNode, 0)
    assert msgspec.msgpack.decode(signed.body, type=DeviceRevocations) == REVOKED


def test_every_golden_file_belongs_to_a_case() -> None:
    assert {file.stem for file in GOLDEN.glob("*.bin")} == set(CASES)


def sound() -> bytes:
    return encode(*CASES["ping-1"])


def refusal(data: bytes, topic: str = TOPIC, body: type[msgspec.Struct] = Ping, utc_ns: int = UTC_NS) -> str:
    with pytest.raises(QedgeError) as error:
        decode(data, topic, body, utc_ns)
    assert error.value.code == "bus.bad_message"
    return str(error.value)


def test_a_message_for_another_topic_has_no_effect() -> None:
    assert "another topic" in refusal(sound(), "qedge/v1/local/box-2/ping")


def test_a_message_for_another_purpose_has_no_effect() -> None:
    assert "another purpose" in refusal(encode(header("mesh-pong/1"), Ping(b"")))
    assert refusal(sound(), body=Pong)


def test_an_expired_message_has_no_effect() -> None:
    assert "expired" in refusal(sound(), utc_ns=UTC_NS + 30_000_000_000)


def test_a_seal_of_a_kind_to_come_is_refused_and_not_passed_over() -> None:
    data = bytearray(sound())
    data[3] = 3
    assert "seal" in refusal(bytes(data))


@pytest.mark.parametrize("kind", [SealKind.SIGNED, SealKind.SEALED])
def test_a_sealed_envelope_is_not_read_as_one_without_a_seal(kind: SealKind) -> None:
    data = bytearray(sound())
    data[3] = kind
    assert "seal" in refusal(bytes(data))


def test_a_later_version_is_refused() -> None:
    data = bytearray(sound())
    data[2] = 2
    assert "version" in refusal(bytes(data))


def test_fields_that_a_newer_node_adds_are_passed_over() -> None:
    def wider(plain: msgspec.Struct, **added: object) -> bytes:
        return msgspec.msgpack.encode(msgspec.to_builtins(plain, builtin_types=(bytes,)) | added)

    head, body = CASES["ping-1"]
    first, second = wider(head, hops=3), wider(body, urgent=True)
    data = sound()[:4] + len(first).to_bytes(2, "big") + len(second).to_bytes(4, "big") + first + second
    assert decode(data, TOPIC, Ping, UTC_NS) == (head, body)


@pytest.mark.parametrize(
    "changes",
    [{"sender": "no name"}, {"sender": ""}, {"sequence": -1}, {"utc_ns": 2**63}, {"topic": "x" * 201}],
)
def test_a_header_out_of_range_has_no_effect(changes: dict[str, object]) -> None:
    data = encode(header(purpose_of(Ping), **changes), Ping(b""))
    assert refusal(data, str(changes.get("topic", TOPIC)))


def test_bytes_after_the_end_or_missing_ones_have_no_effect() -> None:
    assert refusal(sound() + b"\0")
    assert refusal(sound()[:-1])
    assert refusal(b"")


def test_deep_nesting_has_no_effect() -> None:
    body = b"\x82\xa4type\xabmesh-ping/1\xa5nonce" + b"\x91" * 100_000 + b"\xc0"
    head = msgspec.msgpack.encode(header("mesh-ping/1"))
    data = sound()[:4] + len(head).to_bytes(2, "big") + len(body).to_bytes(4, "big") + head + body
    assert refusal(data)


def test_what_is_too_large_is_not_written_and_not_read() -> None:
    with pytest.raises(QedgeError) as error:
        encode(header("mesh-ping/1"), Ping(bytes(MAX_BYTES)))
    assert error.value.code == "bus.too_large"
    assert refusal(bytes(MAX_BYTES + 1))
