"""Commands of fleet operators to a node, and what the node says of them: two topics with two owners.

A request stands retained on `…/{node}/cmd/{id}` in an envelope that the operator signed; its state on
`…/{node}/cmd-state/{id}` in one that the node signed. An empty request says that its sender wants no more of it; it
orders nothing, since anybody could have sent it.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import msgspec

from qedge.wire.mesh import Name, Short
from qedge.wire.trust import Chain, Utc

CommandId = Annotated[
    str, msgspec.Meta(pattern=r"^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}\Z")
]
Serial = Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)]
Arguments = Annotated[bytes, msgspec.Meta(max_length=128 * 1024)]


class OperatorRole(StrEnum):
    """What an operator's certificate lets its holder order; a certificate may name several."""

    VIEWER = "viewer"
    """Asks for diagnostics, logs, self-tests, snapshots of the configuration."""

    OPERATOR = "operator"
    """Runs the boxes: restarts, drains, configuration, drivers, updates."""

    SECURITY = "security"
    """Decides on trust: policy, revocation, keys and certificates, devices, wiping."""


class CommandState(StrEnum):
    """Where a command stands. `SUCCESSFUL` and `FAILED` are its only ends."""

    INIT = "init"
    EXECUTING = "executing"
    SUCCESSFUL = "successful"
    FAILED = "failed"


class Approval(msgspec.Struct, frozen=True):
    """A second person's word for one request: a signature over the request's signed bytes."""

    operator: Name
    chain: Chain
    signature: Annotated[bytes, msgspec.Meta(max_length=8192)]


class CommandRequest(msgspec.Struct, frozen=True, tag_field="type", tag="command-request/1"):
    """What an operator wants of one node, once.

    `arguments` is the encoded struct of the kind, empty where it has none. `serial` grows with every request of an
    operator's key, so that no request counts twice under two ids. After `expires_utc_ns` a node begins nothing;
    `time_limit_s` bounds what it has begun (0: the kind's own limit).
    """

    id: CommandId
    fleet: Name
    node: Name
    kind: Name
    serial: Serial
    issued_utc_ns: Utc
    expires_utc_ns: Utc
    arguments: Arguments = b""
    time_limit_s: Annotated[float, msgspec.Meta(ge=0, le=86_400)] = 0.0
    note: Short = ""


class CommandOrder(msgspec.Struct, frozen=True, tag_field="type", tag="command-order/1"):
    """What stands on the topic: a request as its operator signed it, and approvals of others.

    `signed` is a whole signed envelope whose body is a `CommandRequest`.
    """

    signed: Annotated[bytes, msgspec.Meta(max_length=200 * 1024)]
    approvals: Annotated[tuple[Approval, ...], msgspec.Meta(max_length=4)] = ()


class CommandReport(msgspec.Struct, frozen=True, tag_field="type", tag="command-report/1"):
    """What a node says of a command. `step` and `progress` (0 to 1) tell how far it is; `revision` only grows.

    `reason` is why it failed, `code` the stable code of that error; `result` is the encoded struct of the kind.
    """

    id: CommandId
    kind: Name
    state: Short
    revision: Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
    utc_ns: Utc
    operator: Name = ""
    step: Short = ""
    progress: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.0
    reason: Short = ""
    code: Short = ""
    result: Annotated[bytes, msgspec.Meta(max_length=128 * 1024)] = b""
