"""Arguments of kinds of commands: from words of a command line or a file to the encoded struct of the kind. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import msgspec

from qedge.base.errors import QedgeError
from qedge.wire.command_kinds import (
    BenchmarkAsk,
    CertificateAsk,
    DeviceCommand,
    DiagnosticsAsk,
    DrainCommand,
    DriverCommand,
    LogAsk,
    WipeCommand,
    WorkerCommand,
)
from qedge.wire.commands import CancelCommand
from qedge.wire.configuration import ConfigurationApply, ConfigurationRollback, ConfigurationStage
from qedge.wire.policy import PolicyNotice
from qedge.wire.trust import Membership, RevocationNotice
from qedge.wire.update import SoftwareUpdate

ARGUMENTS: Final[Mapping[str, type[msgspec.Struct] | None]] = {
    "benchmark": BenchmarkAsk,
    "cancel": CancelCommand,
    "config-apply": ConfigurationApply,
    "config-rollback": ConfigurationRollback,
    "config-snapshot": None,
    "config-stage": ConfigurationStage,
    "doctor": None,
    "software-update": SoftwareUpdate,
    "certificate-request": CertificateAsk,
    "certificate-take": Membership,
    "device": DeviceCommand,
    "diagnostics": DiagnosticsAsk,
    "drain": DrainCommand,
    "driver": DriverCommand,
    "logs": LogAsk,
    "policy": PolicyNotice,
    "restart-agent": None,
    "restart-host": None,
    "restart-worker": WorkerCommand,
    "revocation": RevocationNotice,
    "self-test": None,
    "wipe": WipeCommand,
}
"""Kinds that this version knows with the structs of their arguments, None for kinds that take none."""

ReadFile = Callable[[str], bytes]
Value = object
"""What JSON and TOML can hold."""


def encode_arguments(kind: str, words: Sequence[str], read: ReadFile, file: Mapping[str, Value] | None = None) -> bytes:
    """Encode arguments given as `KEY=VALUE` words over those of a file; raises `fleet.bad_arguments`.

    `KEY=@FILE` takes the value from a file; `A.B=VALUE` goes into a struct inside; lists are separated by commas. A
    kind that is not known here takes its arguments as they are, with the struct's name as `type=NAME/1`.
    """
    if kind not in ARGUMENTS:
        return _unknown(kind, words, read, file)
    struct = ARGUMENTS[kind]
    if struct is None:
        if words or file:
            raise _bad(kind, "it takes none")
        return b""
    values: dict[str, Value] = dict(file or {})
    values.pop("type", None)
    for word in words:
        _place(kind, struct, values, word, read)
    unknown = sorted(set(values) - {field.name for field in msgspec.structs.fields(struct)})
    if unknown:
        raise _bad(kind, f"there is no {unknown[0]!r}; there are {known_fields(struct)}")
    try:
        return msgspec.msgpack.encode(msgspec.convert({"type": tag_of(struct), **values}, struct, strict=False))
    except msgspec.ValidationError as error:
        raise _bad(kind, str(error)) from error


def read_result(result: bytes) -> Value:
    """Return the result of a command in JSON's terms (bytes as they are), None for none or one that cannot be read."""
    if not result:
        return None
    try:
        value: Value = msgspec.msgpack.decode(result)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return value


def known_fields(struct: type[msgspec.Struct]) -> str:
    """Name the fields of a struct."""
    return ", ".join(field.name for field in msgspec.structs.fields(struct)) or "none"


def tag_of(struct: type[msgspec.Struct]) -> str:
    """Return the name under which a struct goes over the wire."""
    return str(struct.__struct_config__.tag)


def _unknown(kind: str, words: Sequence[str], read: ReadFile, file: Mapping[str, Value] | None) -> bytes:
    values: dict[str, Value] = dict(file or {})
    for word in words:
        key, equals, text = word.partition("=")
        if not equals or not key:
            raise _bad(kind, f"{word!r} is not KEY=VALUE")
        values[key] = read(text[1:]).decode("utf-8", "replace") if text.startswith("@") else _plain(text)
    if not values:
        return b""
    if not isinstance(values.get("type"), str):
        raise _bad(kind, "this version does not know the kind, so its arguments need type=NAME/1")
    return msgspec.msgpack.encode(values)


def _plain(text: str) -> Value:
    try:
        value: Value = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text
    return value


def _place(kind: str, struct: type[msgspec.Struct], values: dict[str, Value], word: str, read: ReadFile) -> None:
    key, equals, text = word.partition("=")
    if not equals or not key:
        raise _bad(kind, f"{word!r} is not KEY=VALUE")
    path = key.split(".")
    inner: type[msgspec.Struct] = struct
    for part in path[:-1]:
        found = _bare(_type_of(kind, inner, part))
        below = values.setdefault(part, {})
        if not isinstance(found, msgspec.inspect.StructType) or not isinstance(below, dict):
            raise _bad(kind, f"{part!r} holds no further fields")
        inner, values = found.cls, below
    wanted = _bare(_type_of(kind, inner, path[-1]))
    values[path[-1]] = _value(wanted, text, read)


def _value(wanted: msgspec.inspect.Type, text: str, read: ReadFile) -> Value:
    if text.startswith("@"):
        data = read(text[1:])
        return data if isinstance(wanted, msgspec.inspect.BytesType) else data.decode("utf-8", "replace")
    if isinstance(wanted, msgspec.inspect.BytesType):
        return text.encode()
    if isinstance(wanted, (msgspec.inspect.VarTupleType, msgspec.inspect.ListType)):
        return [each for each in text.split(",") if each]
    if isinstance(wanted, msgspec.inspect.DictType):
        return _plain(text)
    return text


def _type_of(kind: str, struct: type[msgspec.Struct], name: str) -> msgspec.inspect.Type:
    for field in msgspec.structs.fields(struct):
        if field.name == name:
            return msgspec.inspect.type_info(field.type)
    raise _bad(kind, f"there is no {name!r}; there are {known_fields(struct)}")


def _bare(info: msgspec.inspect.Type) -> msgspec.inspect.Type:
    while isinstance(info, msgspec.inspect.Metadata):
        info = info.type
    return info


def _bad(kind: str, why: str) -> QedgeError:
    return QedgeError(
        "fleet.bad_arguments",
        f"The arguments of {kind} are wrong: {why}.",
        fix="Give KEY=VALUE each, or a file of JSON or TOML with --arguments.",
    )
