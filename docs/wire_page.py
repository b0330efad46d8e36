"""The reference of commands on the wire, for other languages: made from the topic map and a worked example."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

import msgspec

from qedge.client.fleet_tool.kinds import ARGUMENTS
from qedge.crypto.keys import context_of
from qedge.wire.commands import APPROVAL_PURPOSE, Approval, CommandOrder, CommandReport, CommandRequest, NodeCommands
from qedge.wire.envelope import MAX_BYTES, Header, SealKind, cover, purpose_of
from qedge.wire.mesh import Birth, Lost
from qedge.wire.topics import ROOT, TOPICS, Row
from qedge.wire.trust import RevocationNotice

VECTOR: Final = Path(__file__).resolve().parents[1] / "tests" / "vectors" / "fleet-command.json"
TOLD: Final = (CommandOrder, CommandReport, NodeCommands, Birth, Lost, RevocationNotice)
"""Messages that a fleet tool sends or reads."""

PREFIX: Final = (
    (0, 2, "`QE`, 51 45", "mark"),
    (2, 1, "1", "version of the envelope"),
    (3, 1, ", ".join(f"{kind.value}: {kind.name.lower()}" for kind in SealKind), "kind of the seal"),
    (4, 2, "big-endian", "length of the header, in bytes"),
    (6, 4, "big-endian", "length of the body, in bytes"),
    (10, 0, "MessagePack map", "header"),
    (0, 0, "MessagePack map", "body, whose `type` is the purpose in the header"),
    (0, 0, "MessagePack array", "seal, to the end: `[[leaf, issuer], signature]`; only in kind 1"),
)
Table = Callable[[Iterable[str], Iterable[Iterable[str]]], str]
TypeName = Callable[[object], str]


def example() -> tuple[CommandRequest, bytes, dict[str, str | list[str]]]:
    """Return the request of the worked example, what its signature covers, and the operator's part of the vector."""
    vector = json.loads(VECTOR.read_text("utf-8"))
    fields = {**vector["request"], "arguments": bytes.fromhex(vector["request"]["arguments"])}
    request = msgspec.convert({"type": purpose_of(CommandRequest), **fields}, CommandRequest)
    where = f"{ROOT}/{request.fleet}/{request.node}/cmd/{request.id}"
    purpose = purpose_of(CommandRequest)
    header = Header(
        where, vector["operator"]["name"], request.serial, purpose, request.issued_utc_ns, request.expires_utc_ns
    )
    covered = cover(SealKind.SIGNED, header, msgspec.msgpack.encode(request))
    return request, covered, {**vector["operator"], "signature": vector["signature"]}


def hex_lines(data: bytes) -> str:
    """Write bytes in hex, 32 in a line."""
    return "\n".join(data[at : at + 32].hex(" ") for at in range(0, len(data), 32)) + "\n"


def parts(table: Table, type_name: TypeName) -> Iterator[str]:
    """Give the parts of the page."""
    yield (
        "What a program in any language needs in order to command nodes over MQTT 5. It is made from the code; "
        "[`examples/fleet`](../../examples/fleet/README.md) does the same in Python with public libraries alone, and a "
        "test holds that both write the same bytes. All other topics: [Topics](topics.md).\n"
    )
    yield "## Topics\n"
    yield table(
        ("topic", "message", "QoS", "retained", "who publishes", "seal", "believed because of"), map(_row, rows())
    )
    yield (
        "A tool subscribes to `+/birth`, `+/commands` and `+/cmd-state/+` of its fleet. A request stands until its end "
        "was seen or it expires: give it a Message Expiry Interval, and clear it with an empty retained message "
        "afterwards. An empty message orders nothing; to end a command that a node has taken, send it the kind "
        "`cancel`.\n"
    )
    yield "## Envelope\n"
    yield f"Every message is an envelope of at most {MAX_BYTES} bytes.\n"
    yield table(("offset", "bytes", "value", "what"), _prefix_rows())
    yield "The header:\n"
    yield _fields(Header, table, type_name)
    yield (
        "Integers take the shortest form of MessagePack, texts are `str`, bytes are `bin`; readers take any form. "
        "Fields that a reader does not know are passed over. `sender` is the name in the signer's certificate, "
        "`sequence` of a request is its serial.\n"
    )
    yield "## Signature\n"
    yield (
        "ML-DSA-65 or ML-DSA-87 (FIPS 204, pure, not pre-hashed) over all bytes before the seal, with the context "
        f"`{context_of('PURPOSE').decode()}`, where PURPOSE is that of the header: "
        f"`{context_of(purpose_of(CommandRequest)).decode()}` for a request, "
        f"`{context_of(purpose_of(CommandReport)).decode()}` for a report. The chain is X.509 in DER (RFC 9881), leaf "
        "first, without the root. The one URI of an operator's leaf is `qedge://FLEET/operator/NAME`, of a node's "
        "`qedge://FLEET/node/NAME`; the organizational units of an operator's subject are the roles.\n"
    )
    yield (
        "What stands on the topic of a request is an envelope of kind 0 with a `command-order/1`, whose `signed` is "
        "the whole signed envelope of the request. A second person approves by adding an `Approval`: a signature over "
        f"the bytes of `signed` with the context `{context_of(APPROVAL_PURPOSE).decode()}`.\n"
    )
    for struct in (CommandRequest, CommandOrder, Approval, CommandReport):
        yield f"### `{struct.__name__}`\n"
        yield (inspect.getdoc(struct) or "") + "\n"
        yield _fields(struct, table, type_name)
    yield "## Kinds\n"
    yield "Arguments are the MessagePack map of the struct, with its name as `type`; some kinds have none.\n"
    yield table(("kind", "type", "fields"), _kinds())
    yield from _worked()


def rows() -> list[Row]:
    """Return the rows of the topic map that a fleet tool has to do with."""
    return [row for row in TOPICS if row.message in TOLD]


def _row(row: Row) -> Iterable[str]:
    tag = row.message.__struct_config__.tag if row.message is not None else ""
    place = f"`{ROOT}/{{fleet}}/{{node}}/{row.place}`"
    seal = row.seal.name.lower() if row.seal is not None else "frame"
    return place, f"`{tag}`", str(row.qos), "yes" if row.retain else "no", str(row.publisher), seal, row.proof


def _prefix_rows() -> Iterator[Iterable[str]]:
    for offset, size, value, what in PREFIX:
        yield (str(offset) if size or offset else "after that"), str(size or "by length"), value, what


def _fields(struct: type[msgspec.Struct], table: Table, type_name: TypeName) -> str:
    listed = ((f"`{field.name}`", f"`{type_name(field.type)}`") for field in msgspec.structs.fields(struct))
    tag = struct.__struct_config__.tag
    first = [("`type`", f"`{tag}`")] if tag else []
    return table(("field", "type"), [*first, *listed])


def _kinds() -> Iterator[Iterable[str]]:
    for kind, struct in sorted(ARGUMENTS.items()):
        if struct is None:
            yield f"`{kind}`", "none", ""
        else:
            names = ", ".join(f"`{field.name}`" for field in msgspec.structs.fields(struct))
            yield f"`{kind}`", f"`{struct.__struct_config__.tag}`", names


def _worked() -> Iterator[str]:
    request, covered, operator = example()
    head = int.from_bytes(covered[4:6], "big")
    signature = bytes.fromhex(str(operator["signature"]))
    chain = [bytes.fromhex(each) for each in operator["chain"]]
    seal = msgspec.msgpack.encode([chain, signature])
    yield "## A worked example\n"
    yield (
        f"Operator `ann` of fleet `{request.fleet}` orders node `{request.node}` to take jobs again: kind "
        f"`{request.kind}`, serial {request.serial}. The key is ML-DSA-65 with the seed `{operator['seed']}`; "
        "certificates and everything else stand in "
        "[`fleet-command.json`](../../tests/vectors/fleet-command.json). The arguments:\n"
    )
    yield f"```text\n{hex_lines(request.arguments)}```\n"
    yield "Prefix:\n"
    yield f"```text\n{hex_lines(covered[:10])}```\n"
    yield f"Header, {head} bytes:\n"
    yield f"```text\n{hex_lines(covered[10 : 10 + head])}```\n"
    yield f"Body, {len(covered) - 10 - head} bytes:\n"
    yield f"```text\n{hex_lines(covered[10 + head :])}```\n"
    yield (
        f"These {len(covered)} bytes are signed with the context `{context_of(purpose_of(CommandRequest)).decode()}`; "
        f"their SHA3-256 is `{hashlib.sha3_256(covered).hexdigest()}`. The seal has {len(seal)} bytes: the array `92`, "
        f"the chain of {len(chain)} certificates ({', '.join(str(len(each)) for each in chain)} bytes), and the "
        f"signature of {len(signature)} bytes. It begins with\n"
    )
    yield f"```text\n{hex_lines(seal[:32])}```\n"
    yield "and the signature in it with\n"
    yield f"```text\n{hex_lines(signature[:32])}```\n"
    yield (
        "ML-DSA draws randomness for each signature, so yours will differ; verify this one with your library, and "
        "yours with the public key of the leaf.\n"
    )
