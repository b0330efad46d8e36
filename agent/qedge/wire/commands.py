"""Commands of fleet operators to a node, and what the node says of them: two topics with two owners.

A request stands retained on `…/{node}/cmd/{id}` in an envelope that the operator signed; its state on
`…/{node}/cmd-state/{id}` in one that the node signed. An empty request says that its sender wants no more of it; it
orders nothing, since anybody could have sent it.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, Final

import msgspec

from qedge.base.ids import is_name
from qedge.wire.mesh import Name, Short
from qedge.wire.trust import Chain, Utc

REQUEST_LEVEL: Final = "cmd"
STATE_LEVEL: Final = "cmd-state"
APPROVAL_PURPOSE: Final = "command-approval/1"
"""What an approval's signature is for; it covers `CommandOrder.signed` as it stands."""

CommandId = Annotated[
    str, msgspec.Meta(pattern=r"^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}\Z")
]
Serial = Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)]
KeyId = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{32}\Z")]
Arguments = Annotated[bytes, msgspec.Meta(max_length=128 * 1024)]

_ID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


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
    `time_limit_s` bounds what it has begun (0: the kind's own limit). `node_key` is the id of the key that the node
    had when the request was made: to whoever has its name later, with another key, the request is not addressed.
    Requests without it, as older tools write them, count where they are not older than the node's certificate.
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
    node_key: KeyId | msgspec.UnsetType = msgspec.UNSET


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
    operator: Short = ""
    step: Short = ""
    progress: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.0
    reason: Short = ""
    code: Short = ""
    result: Annotated[bytes, msgspec.Meta(max_length=128 * 1024)] = b""


class CancelCommand(msgspec.Struct, frozen=True, tag_field="type", tag="cancel-command/1"):
    """Arguments of the kind `cancel`: the command that is to end."""

    id: CommandId


class KindView(msgspec.Struct, frozen=True):
    """One kind of command that a node carries out. `two_persons`: it begins only with a second person's approval."""

    kind: Name
    lane: Name
    role: Short
    two_persons: bool
    time_limit_s: float


class NodeCommands(msgspec.Struct, frozen=True, tag_field="type", tag="node-commands/1"):
    """What a node can be ordered to do; nothing at all where it takes no commands."""

    node: Name
    utc_ns: Utc
    kinds: Annotated[tuple[KindView, ...], msgspec.Meta(max_length=128)] = ()


class FleetCommandView(msgspec.Struct, frozen=True, tag_field="type", tag="fleet-command/1"):
    """A command as its node keeps it. `phase` is finer than `state`; times: nanoseconds since 1970 UTC, 0: not yet."""

    id: str
    kind: str
    lane: str
    state: str
    phase: str
    operator: str
    key_id: str
    serial: int
    revision: int
    received_utc_ns: int
    began_utc_ns: int
    ended_utc_ns: int
    expires_utc_ns: int
    approvals: tuple[str, ...] = ()
    step: str = ""
    progress: float = 0.0
    code: str = ""
    reason: str = ""
    note: str = ""
    result: bytes = b""


class FleetCommandList(msgspec.Struct, frozen=True, tag_field="type", tag="fleet-command-list/1"):
    """The newest commands of a node, newest first, without their results."""

    commands: tuple[FleetCommandView, ...]


def command_topic(fleet: str, node: str, command: str) -> str:
    """Return where a request stands; raises `ValueError` for what are no names or no id."""
    return _topic(fleet, node, REQUEST_LEVEL, command)


def state_topic(fleet: str, node: str, command: str) -> str:
    """Return where a node says how a command stands; raises `ValueError`."""
    return _topic(fleet, node, STATE_LEVEL, command)


def every_command(fleet: str, node: str) -> str:
    """Return the filter for all requests to a node."""
    return f"qedge/v1/{fleet}/{node}/{REQUEST_LEVEL}/+"


def every_state(fleet: str, node: str = "+") -> str:
    """Return the filter for all states of a node's commands, or of all nodes'."""
    return f"qedge/v1/{fleet}/{node}/{STATE_LEVEL}/+"


def parse_command_topic(text: str) -> tuple[str, str, str, str] | None:
    """Return fleet, node, level (`cmd` or `cmd-state`) and id of a topic; None where it is none of commands."""
    parts = text.split("/")
    if len(parts) != 6 or parts[:2] != ["qedge", "v1"] or parts[4] not in (REQUEST_LEVEL, STATE_LEVEL):
        return None
    if not (is_name(parts[2]) and is_name(parts[3]) and is_command_id(parts[5])):
        return None
    return parts[2], parts[3], parts[4], parts[5]


def is_command_id(text: str) -> bool:
    """Say whether `text` is a UUIDv7 in its canonical form."""
    return _ID.fullmatch(text) is not None


def _topic(fleet: str, node: str, level: str, command: str) -> str:
    if not (is_name(fleet) and is_name(node) and is_command_id(command)):
        raise ValueError(f"{fleet!r} and {node!r} have to be names, {command!r} a UUIDv7")
    return f"qedge/v1/{fleet}/{node}/{level}/{command}"
