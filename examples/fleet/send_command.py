"""Sends one command of a fleet operator to a node, and waits for its end. Needs nothing of qedge.

    python send_command.py --broker 192.0.2.10:1883 --operator ann.operator --passphrase-file secret alpha self-test

Needs paho-mqtt, cryptography (50 or newer, for ML-DSA) and msgpack. A third argument is the kind's arguments in JSON;
their type is the name that the reference of topics gives, for example {"type": "drain-command/1", "undo": true}.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import queue
import struct
import sys
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgpack
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import mldsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from paho.mqtt import client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

PREFIX = struct.Struct(">2sBBHI")  # "QE", version, seal kind, length of the header, length of the body
PLAIN, SIGNED = 0, 1
ENDS = ("successful", "failed")
PRIVATE_KEYS = {"ml-dsa-65": mldsa.MLDSA65PrivateKey, "ml-dsa-87": mldsa.MLDSA87PrivateKey}


@dataclass(frozen=True)
class Operator:
    """Who sends: what stands in the operator's file."""

    fleet: str
    name: str
    key: mldsa.MLDSA65PrivateKey | mldsa.MLDSA87PrivateKey
    chain: list[bytes]
    root: bytes


def open_operator(path: Path, passphrase: str) -> Operator:
    """Open a file of `qedge operator new`: scrypt makes a key of the passphrase, AES-256-GCM opens the rest."""
    data = path.read_bytes()
    head = struct.Struct(">2sBBBB16s12s")
    magic, version, log_n, r, p, salt, nonce = head.unpack_from(data)
    if magic != b"QS" or version != 1:
        raise SystemExit(f"{path} is no file of an operator")
    memory = 256 * r * 2**log_n + 2**20
    key = hashlib.scrypt(passphrase.encode(), salt=salt, n=2**log_n, r=r, p=p, maxmem=memory, dklen=32)
    identity = msgpack.unpackb(AESGCM(key).decrypt(nonce, data[head.size :], data[: head.size]))
    private = PRIVATE_KEYS[identity["algorithm"]].from_seed_bytes(identity["seed"])
    return Operator(identity["fleet"], identity["name"], private, identity["chain"], identity["anchor"]["root"])


def make_envelope(kind: int, header: Mapping[str, Any], body: Mapping[str, Any]) -> bytes:
    """Write prefix, header and body: all of an envelope without a seal, and what a signature covers."""
    head, content = msgpack.packb(header), msgpack.packb(body)
    return PREFIX.pack(b"QE", 1, kind, len(head), len(content)) + head + content


def sign(operator: Operator, header: Mapping[str, Any], body: Mapping[str, Any]) -> bytes:
    """Write an envelope with its seal: the chain, and ML-DSA over all bytes before the seal."""
    covered = make_envelope(SIGNED, header, body)
    signature = operator.key.sign(covered, b"qedge/v1/" + header["purpose"].encode())
    return covered + msgpack.packb([operator.chain, signature])


def make_order(operator: Operator, request: Mapping[str, Any]) -> bytes:
    """Write what stands on the topic of a request: the signed request, with room for approvals of others."""
    header = {
        "topic": f"qedge/v1/{request['fleet']}/{request['node']}/cmd/{request['id']}",
        "sender": operator.name,
        "sequence": request["serial"],
        "purpose": "command-request/1",
        "utc_ns": request["issued_utc_ns"],
        "expires_utc_ns": request["expires_utc_ns"],
    }
    signed = sign(operator, header, {"type": "command-request/1", **request})
    outer = {**header, "purpose": "command-order/1", "expires_utc_ns": 0}
    return make_envelope(PLAIN, outer, {"type": "command-order/1", "signed": signed, "approvals": []})


def read_report(operator: Operator, topic: str, node: str, data: bytes) -> dict[str, Any]:
    """Read what a node says of a command; raises where it is not signed by that node of the operator's fleet."""
    magic, version, kind, head_size, body_size = PREFIX.unpack_from(data)
    end = PREFIX.size + head_size + body_size
    header = msgpack.unpackb(data[PREFIX.size : PREFIX.size + head_size])
    chain, signature = msgpack.unpackb(data[end:])
    leaf, issuing, root = (x509.load_der_x509_certificate(der) for der in (*chain, operator.root))
    leaf.verify_directly_issued_by(issuing)
    issuing.verify_directly_issued_by(root)
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    public = leaf.public_key()
    assert isinstance(public, (mldsa.MLDSA65PublicKey, mldsa.MLDSA87PublicKey))
    public.verify(signature, data[:end], b"qedge/v1/command-report/1")
    expected = (b"QE", 1, SIGNED, topic, "command-report/1", [f"qedge://{operator.fleet}/node/{node}"])
    if (magic, version, kind, header["topic"], header["purpose"], uris) != expected:
        raise ValueError("the report is of another node, or for another topic")
    report: dict[str, Any] = msgpack.unpackb(data[PREFIX.size + head_size : end])
    return report


def uuid7() -> str:
    """Make a UUIDv7 (RFC 9562): milliseconds since 1970, then random bits."""
    value = (time.time_ns() // 1_000_000 << 80) | int.from_bytes(os.urandom(10), "big")
    value = value & ~(0xF << 76) | (0x7 << 76)
    return str(uuid.UUID(int=value & ~(0x3 << 62) | (0x2 << 62)))


def make_request(operator: Operator, node: str, kind: str, arguments: bytes) -> dict[str, Any]:
    """Make a request that is good for ten minutes. A serial is never used twice with one key: here it is the time."""
    now_ns = time.time_ns()
    return {
        "id": uuid7(),
        "fleet": operator.fleet,
        "node": node,
        "kind": kind,
        "serial": now_ns // 1000,
        "issued_utc_ns": now_ns,
        "expires_utc_ns": now_ns + 600 * 10**9,
        "arguments": arguments,
        "time_limit_s": 0.0,
        "note": "",
    }


def main() -> int:
    """Send, and wait."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--broker", required=True, metavar="HOST:PORT")
    parser.add_argument("--operator", required=True, type=Path)
    parser.add_argument("--passphrase-file", required=True, type=Path)
    parser.add_argument("node")
    parser.add_argument("kind")
    parser.add_argument("arguments", nargs="?", default="")
    args = parser.parse_args()
    operator = open_operator(args.operator, args.passphrase_file.read_text().splitlines()[0])
    arguments = msgpack.packb(json.loads(args.arguments)) if args.arguments else b""
    request = make_request(operator, args.node, args.kind, arguments)
    place = f"qedge/v1/{operator.fleet}/{args.node}"
    state_topic = f"{place}/cmd-state/{request['id']}"

    came: queue.Queue[bytes] = queue.Queue()
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
    client.on_message = lambda _client, _data, message: came.put(message.payload)
    host, _, port = args.broker.rpartition(":")
    client.connect(host, int(port))
    client.subscribe(state_topic, qos=1)
    client.loop_start()
    expiry = Properties(PacketTypes.PUBLISH)
    expiry.MessageExpiryInterval = 600
    client.publish(f"{place}/cmd/{request['id']}", make_order(operator, request), 1, retain=True, properties=expiry)
    state = ""
    while state not in ENDS:
        report = read_report(operator, state_topic, args.node, came.get(timeout=600))
        state = report["state"]
        print(state, report["reason"] or report["step"], flush=True)
    client.publish(f"{place}/cmd/{request['id']}", b"", 1, retain=True).wait_for_publish(10)  # nobody needs it any more
    client.loop_stop()
    client.disconnect()
    if report["result"]:
        print(json.dumps(msgpack.unpackb(report["result"]), default=bytes.hex))
    return 0 if state == "successful" else 1


if __name__ == "__main__":
    sys.exit(main())
