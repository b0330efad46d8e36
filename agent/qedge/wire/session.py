"""What two nodes exchange to open a sealed session, and what they say inside it."""

from __future__ import annotations

from typing import Annotated

import msgspec

from qedge.wire.mesh import Name, Short
from qedge.wire.problem import Problem

SessionId = Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]


class Hello(msgspec.Struct, frozen=True, tag_field="type", tag="hello/1"):
    """One flight of a TLS 1.3 handshake. The client (the lower name) sends the even flights, the server the odd ones.

    Flight −1 carries nothing: the server asks the client to begin, because only a client begins.
    """

    session: SessionId
    flight: Annotated[int, msgspec.Meta(ge=-1, le=16)]
    data: Annotated[bytes, msgspec.Meta(max_length=96 * 1024)] = b""


class Terms(msgspec.Struct, frozen=True, tag_field="type", tag="session-terms/1"):
    """What each side says inside the handshake's TLS connection, so that it is part of what both agreed on.

    `keys` are ids of extra keys that the client offers, newest first; the server answers with the one it took, or none.
    `direct` lists `host:port` under which the sender's direct channel can be reached.
    """

    node: Name
    boot_id: Short
    epoch: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
    keys: Annotated[tuple[Short, ...], msgspec.Meta(max_length=16)] = ()
    direct: Annotated[tuple[Short, ...], msgspec.Meta(max_length=8)] = ()


class Call(msgspec.Struct, frozen=True, tag_field="type", tag="call/1"):
    """A question inside a session: `body` is a MessagePack struct whose tag is `purpose`; `id` comes back."""

    id: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
    purpose: Annotated[str, msgspec.Meta(max_length=64)]
    deadline_s: Annotated[float, msgspec.Meta(gt=0, le=600)]
    body: bytes


class Answer(msgspec.Struct, frozen=True, tag_field="type", tag="answer/1"):
    """The answer to the call `id`: a struct with the tag `purpose`, or what went wrong."""

    id: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
    purpose: Annotated[str, msgspec.Meta(max_length=64)] = ""
    body: bytes = b""
    problem: Problem | None = None


class Part(msgspec.Struct, frozen=True, tag_field="type", tag="part/1"):
    """A piece of a call or answer that is too large for one message; piece `index` of `count`."""

    id: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
    index: Annotated[int, msgspec.Meta(ge=0, le=4095)]
    count: Annotated[int, msgspec.Meta(ge=1, le=4096)]
    data: bytes
