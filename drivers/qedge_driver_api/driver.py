"""What every driver is: describe, probe, open, close, health, properties; and how its settings are declared."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar, Final, Protocol, runtime_checkable

from qedge_driver_api.errors import BadSettingsError

API_VERSION: Final = 1
"""Version of this contract. A driver states the version it was written for; qedge refuses any other."""

ENTRY_POINT_GROUP: Final = "qedge.drivers"

PropertyValue = str | int | float | bool
Property = PropertyValue | Sequence[PropertyValue]


class DriverKind(StrEnum):
    """What kind of hardware a driver speaks for."""

    QPU = "qpu"
    QKD = "qkd"
    QRNG = "qrng"


class AdminState(StrEnum):
    """What the operator wants; stored by the node."""

    UNLOCKED = "unlocked"
    LOCKED = "locked"


class OperatingState(StrEnum):
    """How the device is; derived from its health."""

    UP = "up"
    DEGRADED = "degraded"
    DOWN = "down"


@dataclass(frozen=True, slots=True)
class Health:
    """Answer of `Driver.health`: the state, one sentence why, and the age of the newest data in seconds (−1: none)."""

    state: OperatingState
    reason: str = ""
    data_age_s: float = -1.0


@dataclass(frozen=True, slots=True)
class SettingInfo:
    """One setting as `describe` reports it: enough to validate, to document and to draw a form.

    `type` is `bool`, `int`, `float`, `str` or `list[...]` of one of them; `unit` is empty for pure numbers;
    `minimum` and `maximum` are inclusive; `choices` is empty where any value of the type goes; a setting without
    `default` (None) must be given.
    """

    key: str
    type: str
    default: Property | None
    description: str
    unit: str = ""
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[PropertyValue, ...] = ()


@dataclass(frozen=True, slots=True)
class DriverInfo:
    """Answer of `Driver.describe`: pure data, made without I/O and without importing anything heavy.

    `abilities` are words of the kind's protocol that the driver supports beyond the minimum.
    `simulated` is true where no hardware is behind it; the node labels everything made from it so.
    """

    name: str
    kind: DriverKind
    version: str
    summary: str
    settings: tuple[SettingInfo, ...]
    abilities: tuple[str, ...] = ()
    simulated: bool = False
    api_version: int = API_VERSION


@dataclass(frozen=True, slots=True)
class DriverContext:
    """What the host gives a driver when it opens.

    `instance` is the configured name; `state_dir` an own folder the driver may write; `random_bytes(n)` gives `n`
    secret random bytes of the node's pool (for protocol choices; never seed it, never log it); `cancelled()` turns true
    when the host wants a long call to return early.
    """

    instance: str
    state_dir: str
    random_bytes: Callable[[int], bytes]
    cancelled: Callable[[], bool]


@runtime_checkable
class Driver(Protocol):
    """The part all kinds share. One instance per configured device, in a process of its own, called by one thread.

    The constructor takes the settings dataclass, checks it (raising `BadSettingsError`) and does no I/O. Every method
    blocks until it is done or raises a `DriverError`; the host puts a deadline on each call and kills the process when
    it passes.
    """

    Settings: ClassVar[type[Any]]
    """A frozen standard dataclass; fields made by `setting(...)`."""

    @classmethod
    def describe(cls) -> DriverInfo:
        """Say what this driver is; no I/O, no heavy import, at most 100 ms."""
        ...

    def probe(self) -> None:
        """Check that the device is there, without side effect; raises where it is not."""
        ...

    def open(self, context: DriverContext) -> None:
        """Connect. May be called again after `close` or after a failed `open`."""
        ...

    def close(self) -> None:
        """Let go of the device; legal in any state, any number of times, never raises."""
        ...

    def health(self) -> Health:
        """Say how the device is; cheap, legal in any state."""
        ...

    def properties(self) -> Mapping[str, Property]:
        """Return facts about the open device (serial number, firmware, temperature, …); no secrets."""
        ...


def setting(
    default: Property | None = None,
    *,
    description: str,
    unit: str = "",
    minimum: float | None = None,
    maximum: float | None = None,
    choices: tuple[PropertyValue, ...] = (),
) -> Any:  # a dataclass field takes the type its annotation names, as dataclasses.field does
    """Declare one field of a settings dataclass; a list default is given as a tuple."""
    info = {"description": description, "unit": unit, "minimum": minimum, "maximum": maximum, "choices": choices}
    if default is None:
        return dataclasses.field(metadata={"qedge": info})
    return dataclasses.field(default=default, metadata={"qedge": info})


_SCALARS: Final[Mapping[type, str]] = {bool: "bool", int: "int", float: "float", str: "str"}


def _type_name(annotation: Any, where: str) -> str:  # any annotation at all may stand there
    if annotation in _SCALARS:
        return _SCALARS[annotation]
    arguments = typing.get_args(annotation)
    if typing.get_origin(annotation) is tuple and len(arguments) == 2 and arguments[1] is Ellipsis:
        return f"list[{_type_name(arguments[0], where)}]"
    raise TypeError(f"{where}: settings are bool, int, float, str or tuple[…, ...] of these")


def settings_schema(settings: type[Any]) -> tuple[SettingInfo, ...]:
    """Read the schema off a settings dataclass whose fields were made by `setting`."""
    hints = typing.get_type_hints(settings)
    rows: list[SettingInfo] = []
    for field in dataclasses.fields(settings):
        info = field.metadata.get("qedge")
        if not isinstance(info, (dict, types.MappingProxyType)):
            raise TypeError(f"{settings.__name__}.{field.name}: make the field with setting(...)")
        default = None if field.default is dataclasses.MISSING else field.default
        rows.append(
            SettingInfo(field.name, _type_name(hints[field.name], f"{settings.__name__}.{field.name}"), default, **info)
        )
    return tuple(rows)


def check_setting(info: SettingInfo, value: object) -> Property:
    """Return `value` in the type that `info` declares, or raise `BadSettingsError` that says what was expected."""
    if info.type.startswith("list["):
        if not isinstance(value, (list, tuple)):
            raise BadSettingsError(f"{info.key}: expected a list, got {type(value).__name__}", info.key)
        inner = dataclasses.replace(info, type=info.type[5:-1])
        items = [check_setting(inner, item) for item in value]
        return tuple(item for item in items if isinstance(item, (str, int, float, bool)))
    if info.type == "float" and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if type(value).__name__ != info.type or not isinstance(value, (str, int, float, bool)):
        raise BadSettingsError(f"{info.key}: expected {info.type}, got {type(value).__name__}", info.key)
    if info.choices and value not in info.choices:
        allowed = ", ".join(repr(choice) for choice in info.choices)
        raise BadSettingsError(f"{info.key}: expected one of {allowed}, got {value!r}", info.key)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        low = info.minimum is not None and value < info.minimum
        high = info.maximum is not None and value > info.maximum
        if low or high or value != value:
            span = f"{'' if info.minimum is None else info.minimum} … {'' if info.maximum is None else info.maximum}"
            raise BadSettingsError(
                f"{info.key}: expected {span.strip()} {info.unit}".rstrip() + f", got {value}", info.key
            )
    return value


def settings_from_mapping(settings: type[Any], values: Mapping[str, object]) -> Any:  # an instance of `settings`
    """Make a settings dataclass from plain values (as in TOML); raises `BadSettingsError` at the first fault."""
    schema = {info.key: info for info in settings_schema(settings)}
    for key in values:
        if key not in schema:
            raise BadSettingsError(f"{key}: unknown setting; known are {', '.join(schema)}", key)
    checked = {key: check_setting(schema[key], value) for key, value in values.items()}
    missing = [key for key, info in schema.items() if info.default is None and key not in checked]
    if missing:
        raise BadSettingsError(f"{missing[0]}: this setting has no default and must be given", missing[0])
    return settings(**checked)


@runtime_checkable
class Reconfigurable(Protocol):
    """Ability `reconfigure`: take new settings while open, without losing the device."""

    def reconfigure(self, settings: Any) -> None:  # an instance of the driver's own Settings
        """Apply checked settings at once, or raise `BadSettingsError` and keep the old ones."""
        ...
