"""The target that hosts one driver: loads it by entry point, calls it, and believes nothing it says."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable, Iterator, Mapping
from importlib import metadata
from typing import Final, cast

from qedge.base.errors import QedgeError
from qedge.workers.host import HostLink
from qedge.workers.model import Msg
from qedge_driver_api import (
    API_VERSION,
    ENTRY_POINT_GROUP,
    BadSettingsError,
    DetectionBlock,
    Driver,
    DriverContext,
    DriverError,
    DriverInfo,
    DriverKind,
    FatalError,
    FinishedKey,
    Health,
    OperatingState,
    Preparations,
    ProgramError,
    QkdKeySource,
    QkdTransceiver,
    QrngDriver,
    RawSamples,
    Reconfigurable,
    settings_from_mapping,
)

MAX_READ_BYTES: Final = 1 << 20
_MAX_PROPERTIES: Final = 256
_RANDOM_CHUNK_BYTES: Final = 1 << 15
"""Keeps the daemon from computing random bytes for more than about a millisecond at a time."""


def load_driver(name: str) -> type[Driver]:
    """Import the driver class behind an entry point; raises `driver.not_found`, `.fatal` or `.api_mismatch`."""
    for entry in metadata.entry_points(group=ENTRY_POINT_GROUP, name=name):
        try:
            driver: type[Driver] = entry.load()
        except Exception as error:
            raise QedgeError(
                "driver.fatal", f"The driver {name} cannot be imported: {error}.", fix="Install what it needs."
            ) from error
        version = driver.describe().api_version
        if version != API_VERSION:
            raise QedgeError(
                "driver.api_mismatch",
                f"The driver {name} speaks contract version {version}, this node {API_VERSION}.",
                fix="Install a version of the driver that was made for this qedge.",
            )
        return driver
    raise QedgeError(
        "driver.not_found",
        f"No driver named {name!r} is installed.",
        fix="`qedge drivers list` shows the installed ones.",
    )


def lied(what: str) -> QedgeError:
    """Make the error for an answer that cannot be true."""
    return QedgeError(
        "driver.lied", f"The driver's answer cannot be true: {what}.", fix="Report it to the driver's maker."
    )


@contextlib.contextmanager
def driver_errors() -> Iterator[None]:
    """Translate what drivers raise into the node's errors."""
    try:
        yield
    except BadSettingsError as error:
        raise QedgeError("driver.bad_settings", str(error), fix="Correct the setting.", key=error.key) from error
    except ProgramError as error:
        code = f"circuit.{error.code}"
        known = ("circuit.too_many_qubits", "circuit.too_many_ops", "circuit.unsupported", "circuit.no_measurement")
        raise QedgeError(code if code in known else "circuit.unsupported", str(error), reason=error.code) from error
    except FatalError as error:
        raise QedgeError("driver.fatal", str(error), fix="Look at the device; then unlock the driver again.") from error
    except DriverError as error:
        raise QedgeError("driver.retriable", str(error), fix="The node tries again by itself.") from error


class DriverHost:
    """Answers the daemon's calls for one driver instance.

    `init`: `driver` (entry point name), `instance`, `settings` (mapping), `state_dir`.
    """

    def __init__(self, init: Mapping[str, object], link: HostLink) -> None:
        self._link = link
        self._instance = str(init.get("instance", ""))
        self._state_dir = str(init.get("state_dir", ""))
        self._class = load_driver(str(init.get("driver", "")))
        settings = init.get("settings", {})
        self._settings = self.complete(settings if isinstance(settings, Mapping) else {})
        self._driver: Driver | None = None
        self._methods: dict[str, Callable[[Mapping[str, object]], Msg]] = {
            "describe": lambda _args: describe(self._class),
            "probe": self._probe,
            "open": self._open,
            "close": self._close,
            "health": self._health,
            "properties": self._properties,
            "configure": self._configure,
            "reconfigure": self._reconfigure,
            "read": self._read,
            "read_block": self._read_block,
            "preparations": self._preparations,
            "release": self._release,
            "take": self._take,
            "take_by_id": self._take_by_id,
        }

    def add_method(self, name: str, method: Callable[[Mapping[str, object]], Msg]) -> None:
        """Offer one more method (for hosts that do more than pass calls on)."""
        self._methods[name] = method

    def handle(self, method: str, args: Mapping[str, object]) -> Msg:
        """Run one call of the daemon."""
        run = self._methods.get(method)
        if run is None:
            raise QedgeError("worker.bad_answer", f"This worker has no method {method!r}.")
        with driver_errors():
            return run(args)

    @property
    def driver(self) -> Driver:
        """The driver instance, made at first use; raises `driver.bad_settings`."""
        if self._driver is None:
            with driver_errors():
                make = cast("Callable[[object], Driver]", self._class)
                self._driver = make(settings_from_mapping(self._class.Settings, self._settings))
        return self._driver

    def _probe(self, _args: Mapping[str, object]) -> Msg:
        self.driver.probe()
        return None

    def _open(self, _args: Mapping[str, object]) -> Msg:
        if self._state_dir:
            os.makedirs(self._state_dir, mode=0o700, exist_ok=True)
        self.driver.open(DriverContext(self._instance, self._state_dir, self.random_bytes, self._link.cancelled))
        return None

    def _close(self, _args: Mapping[str, object]) -> Msg:
        self.driver.close()
        return None

    def complete(self, settings: Mapping[str, object]) -> dict[str, object]:
        """Return the settings that a driver gets; a host that wants some of its own where none are given adds them."""
        return dict(settings)

    def random_bytes(self, number: int) -> bytes:
        """Return secret random bytes of the node's pool."""
        chunks = []
        while number > 0:
            chunks.append(self._link.random_bytes(min(number, _RANDOM_CHUNK_BYTES)))
            number -= len(chunks[-1])
        return b"".join(chunks)

    def _health(self, _args: Mapping[str, object]) -> Msg:
        health = self.driver.health()
        if not isinstance(health, Health) or not isinstance(health.state, OperatingState):
            raise lied("health is not a Health")
        age_s = float(health.data_age_s)
        return {"state": health.state.value, "reason": str(health.reason)[:500], "data_age_s": age_s}

    def _properties(self, _args: Mapping[str, object]) -> Msg:
        properties = self.driver.properties()
        if not isinstance(properties, Mapping) or len(properties) > _MAX_PROPERTIES:
            raise lied("properties are not a small mapping")
        return {str(key): _plain(value, key) for key, value in properties.items()}

    def _configure(self, args: Mapping[str, object]) -> Msg:
        """Take other settings than those of `init`, before the driver is made."""
        settings = args.get("settings")
        self._settings = self.complete(settings if isinstance(settings, dict) else {})
        return None

    def _reconfigure(self, args: Mapping[str, object]) -> Msg:
        changes = args.get("settings")
        merged = {**self._settings, **(changes if isinstance(changes, dict) else {})}
        settings = settings_from_mapping(self._class.Settings, merged)
        if not isinstance(self.driver, Reconfigurable):
            return False
        self.driver.reconfigure(settings)
        self._settings = merged
        return True

    def _read(self, args: Mapping[str, object]) -> Msg:
        number = _number(args, "num_bytes", 1, MAX_READ_BYTES)
        samples = cast("QrngDriver", self._of_kind(DriverKind.QRNG)).read(number)
        if not isinstance(samples, RawSamples) or not isinstance(samples.data, bytes):
            raise lied("a read gave no RawSamples")
        if len(samples.data) != number:
            raise lied(f"a read of {number} bytes gave {len(samples.data)}")
        bits, entropy = samples.bits_per_sample, float(samples.min_entropy_per_sample)
        if bits not in (1, 8) or not 0 < entropy <= bits:
            raise lied(f"{bits} bits a sample with {entropy} bits of min-entropy")
        return {"data": samples.data, "bits_per_sample": bits, "min_entropy_per_sample": entropy}

    def _read_block(self, args: Mapping[str, object]) -> Msg:
        timeout_s = args.get("timeout_s", 1.0)
        link = cast("QkdTransceiver", self._of_kind(DriverKind.QKD))
        block = link.read_block(float(timeout_s) if isinstance(timeout_s, (int, float)) else 1.0)
        if block is None:
            return None
        if not isinstance(block, DetectionBlock):
            raise lied("a block is no DetectionBlock")
        number = len(block.bits)
        if len(block.slots) != 8 * number or len(block.bases) != number or number > block.num_slots:
            raise lied("the arrays of a detection block do not fit together")
        if block.bits.translate(None, b"\0\1") or block.bases.translate(None, b"\0\1"):
            raise lied("bits and bases of a detection block are 0 or 1")
        return {
            "first_slot": int(block.first_slot),
            "num_slots": int(block.num_slots),
            "slots": block.slots,
            "bases": block.bases,
            "bits": block.bits,
            "double_clicks": int(block.double_clicks),
        }

    def _preparations(self, args: Mapping[str, object]) -> Msg:
        slots = args.get("slots")
        if not isinstance(slots, bytes) or len(slots) % 8:
            raise QedgeError("job.bad_request", "Slots are 8 bytes each.")
        made = cast("QkdTransceiver", self._of_kind(DriverKind.QKD)).preparations(slots)
        number = len(slots) // 8
        if (
            not isinstance(made, Preparations)
            or not len(made.bits) == len(made.bases) == len(made.intensities) == number
        ):
            raise lied("the preparations do not fit the slots asked for")
        if made.bits.translate(None, b"\0\1") or made.bases.translate(None, b"\0\1"):
            raise lied("bits and bases of preparations are 0 or 1")
        return {"bases": made.bases, "bits": made.bits, "intensities": made.intensities}

    def _release(self, args: Mapping[str, object]) -> Msg:
        cast("QkdTransceiver", self._of_kind(DriverKind.QKD)).release(_number(args, "before_slot", 0, 2**63))
        return None

    def _take(self, args: Mapping[str, object]) -> Msg:
        source = cast("QkdKeySource", self._of_kind(DriverKind.QKD))
        return _keys(source.take(_number(args, "number", 1, 1024), _number(args, "size_bits", 8, 1 << 20)))

    def _take_by_id(self, args: Mapping[str, object]) -> Msg:
        wanted = args.get("key_ids")
        key_ids = tuple(str(key_id) for key_id in wanted) if isinstance(wanted, list) else ()
        keys = cast("QkdKeySource", self._of_kind(DriverKind.QKD)).take_by_id(key_ids)
        if tuple(key.key_id for key in keys) != key_ids:
            raise lied("other keys than those asked for")
        return _keys(keys)

    def _of_kind(self, kind: DriverKind) -> Driver:
        if self._class.describe().kind is not kind:
            raise QedgeError(
                "driver.fatal", f"The driver of {self._instance} is no {kind}.", fix="Name another driver."
            )
        return self.driver


def _keys(keys: tuple[FinishedKey, ...]) -> Msg:
    if any(not isinstance(key.key, bytes) or not key.key for key in keys):
        raise lied("a key without bytes")
    return [{"key_id": str(key.key_id), "key": key.key} for key in keys]


def _number(args: Mapping[str, object], key: str, low: int, high: int) -> int:
    value = args.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise QedgeError("job.bad_request", f"{key} is a whole number from {low} to {high}.")
    return value


def _plain(value: object, key: object) -> Msg:
    if isinstance(value, float) and not math.isfinite(value):
        raise lied(f"property {key} is {value}")
    if isinstance(value, (str, int, float, bool)):
        return value
    if isinstance(value, (list, tuple)):
        return [_plain(item, key) for item in value]
    raise lied(f"property {key} is a {type(value).__name__}")


def describe(driver: type[Driver]) -> Msg:
    """Write a driver's description down as plain values; raises `driver.lied` where it is none."""
    info = driver.describe()
    if not isinstance(info, DriverInfo) or not isinstance(info.kind, DriverKind):
        raise lied("describe gave no DriverInfo")
    return {
        "name": info.name,
        "kind": info.kind.value,
        "version": info.version,
        "summary": info.summary,
        "simulated": bool(info.simulated),
        "abilities": [str(ability) for ability in info.abilities],
        "api_version": info.api_version,
        "settings": [
            {
                "key": setting.key,
                "type": setting.type,
                "default": _plain(setting.default, setting.key) if setting.default is not None else None,
                "description": setting.description,
                "unit": setting.unit,
                "minimum": setting.minimum,
                "maximum": setting.maximum,
                "choices": [_plain(choice, setting.key) for choice in setting.choices],
            }
            for setting in info.settings
        ],
    }


class Describer:
    """A target that only describes drivers; used where no daemon runs."""

    def __init__(self, _init: Mapping[str, object], _link: HostLink) -> None:
        return

    def handle(self, method: str, args: Mapping[str, object]) -> Msg:
        """`describe {"driver": name}` returns the description of one installed driver."""
        if method != "describe":
            raise QedgeError("worker.bad_answer", f"This worker has no method {method!r}.")
        return describe(load_driver(str(args.get("driver", ""))))
