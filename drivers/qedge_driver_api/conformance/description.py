"""Checks of what a driver says of itself and of its settings; no device is needed for them."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import json
import os
import subprocess
import sys
import time
from typing import Any, Final

from qedge_driver_api.conformance.report import FailedError, SkippedError
from qedge_driver_api.conformance.samples import extreme_values, refused_values
from qedge_driver_api.conformance.stand import Check, Stand, describe_error, expect
from qedge_driver_api.conformance.witness import recorded_io
from qedge_driver_api.driver import (
    API_VERSION,
    DriverInfo,
    DriverKind,
    SettingInfo,
    check_setting,
    settings_schema,
)
from qedge_driver_api.errors import BadSettingsError

DESCRIBE_LIMIT_S: Final = 0.1
_FRESH_LIMIT_S: Final = 60.0
_HEAVY: Final = frozenset(
    ["numpy", "scipy", "pandas", "cirq", "qsimcirq", "qiskit", "stim", "numba", "torch", "jax", "matplotlib"]
)
_FRESH: Final = """
import importlib, json, sys
module, name = sys.argv[1:3]
found = importlib.import_module(module)
for part in name.split("."):
    found = getattr(found, part)
found.describe()
print(json.dumps(sorted(sys.modules)))
"""

_SHARED: Final = ("describe", "probe", "open", "close", "health", "properties")
_OF_KIND: Final = {
    DriverKind.QPU: (("qpu_properties", "estimate", "submit", "wait", "result", "cancel", "free"),),
    DriverKind.QRNG: (("read",),),
    DriverKind.QKD: (("read_block", "preparations", "release"), ("take", "take_by_id")),
}


def check_info(info: DriverInfo) -> None:
    """Fail unless the facts of a `DriverInfo` have their types and are not empty."""
    expect(isinstance(info.kind, DriverKind), f"kind is {info.kind!r} and no DriverKind")
    for key in ("name", "version", "summary"):
        value = getattr(info, key)
        expect(isinstance(value, str) and bool(value.strip()), f"{key} is {value!r}: expected a text")
    expect(isinstance(info.simulated, bool), f"simulated is {info.simulated!r}: expected true or false")
    rows_good = isinstance(info.settings, tuple) and all(isinstance(row, SettingInfo) for row in info.settings)
    expect(rows_good, "settings: expected a tuple of SettingInfo, as settings_schema() makes it")
    words_good = isinstance(info.abilities, tuple) and all(isinstance(word, str) for word in info.abilities)
    expect(words_good, "abilities: expected a tuple of words")


def _is_pure(stand: Stand) -> None:
    with recorded_io() as heard:
        once, twice = stand.driver.describe(), stand.driver.describe()
    expect(once == twice == stand.info, "describe() says different things when it is asked again")
    expect(not heard, f"describe() does input or output: {', '.join(heard[:3])}")


def _is_fast(stand: Stand) -> None:
    times_s = []
    for _ in range(5):
        started = time.perf_counter()
        stand.driver.describe()
        times_s.append(time.perf_counter() - started)
    best_s = min(times_s)
    expect(best_s <= DESCRIBE_LIMIT_S, f"describe() takes {best_s * 1e3:.0f} ms; at most {DESCRIBE_LIMIT_S * 1e3:.0f}")


def _imports_little(stand: Stand) -> None:
    module, name = stand.driver.__module__, stand.driver.__qualname__
    spec = None
    with contextlib.suppress(ImportError, ValueError):
        spec = importlib.util.find_spec(module)
    if module == "__main__" or "<locals>" in name or spec is None:
        raise SkippedError("the class cannot be imported by name")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-c", _FRESH, module, name]
    answer = subprocess.run(  # noqa: S603 - this interpreter, on the module that is being tested anyway
        command, env=environment, capture_output=True, text=True, timeout=_FRESH_LIMIT_S, check=False
    )
    expect(answer.returncode == 0, f"a fresh interpreter cannot import and describe it: {answer.stderr[-200:]}")
    loaded = set(json.loads(answer.stdout.splitlines()[-1]))
    heavy = sorted(_HEAVY & loaded)
    expect(not heavy, f"import and describe() load {', '.join(heavy)}; import these inside open()")


def _api_version(stand: Stand) -> None:
    version = stand.info.api_version
    expect(version == API_VERSION, f"written for contract version {version!r}; this is {API_VERSION}")


def _interface(stand: Stand) -> None:
    def lacking(names: tuple[str, ...]) -> list[str]:
        return [name for name in names if not callable(getattr(stand.driver, name, None))]

    missing = lacking(_SHARED)
    expect(not missing, f"a driver has the methods {', '.join(missing)}")
    choices = [lacking(names) for names in _OF_KIND[stand.info.kind]]
    least = min(choices, key=len)
    expect(not least, f"a driver of kind {stand.info.kind} has the methods {', '.join(least)}")
    able, says = callable(getattr(stand.driver, "reconfigure", None)), "reconfigure" in stand.info.abilities
    expect(able == says, "the ability `reconfigure` and the method of that name go together")


def _schema(stand: Stand) -> None:
    settings = getattr(stand.driver, "Settings", None)
    expect(isinstance(settings, type) and dataclasses.is_dataclass(settings), "Settings is no dataclass")
    frozen = getattr(settings, "__dataclass_params__", None)
    expect(bool(getattr(frozen, "frozen", False)), "Settings is no frozen dataclass")
    try:
        own = settings_schema(stand.driver.Settings)
    except TypeError as error:
        raise FailedError(f"Settings: {error}") from error
    told, has = ([(row.key, row.type, row.default) for row in rows] for rows in (stand.info.settings, own))
    expect(told == has, "describe() tells other settings than Settings has")
    for row in stand.info.settings:
        expect(bool(row.description.strip()), f"{row.key} has no description")
        if row.default is not None:
            try:
                check_setting(row, row.default)
            except BadSettingsError as error:
                raise FailedError(f"the default breaks its own rule: {error}") from error


def _accepted(stand: Stand) -> None:
    try:
        stand.make()
    except BadSettingsError as error:
        given = "the settings given to the kit" if stand.values else "the default settings"
        raise FailedError(f"{given} are refused: {error}") from error


def _try(stand: Stand, what: str, **changes: object) -> bool:
    """Say whether the settings are taken; anything but `BadSettingsError` fails the check."""
    try:
        stand.make(**changes)
    except BadSettingsError:
        return False
    except Exception as error:
        raise FailedError(f"{what}: expected BadSettingsError, got {describe_error(error)}") from error
    return True


def _refused(stand: Stand) -> None:
    for row in stand.info.settings:
        for what, value in refused_values(row):
            taken = _try(stand, f"{row.key} = {value!r}", **{row.key: value})
            expect(not taken, f"{row.key} = {value!r} is taken: {what}")
    expect(not _try(stand, "an unknown key", qedge_kit_unknown=1), "an unknown setting is taken")


def _at_limits(stand: Stand) -> None:
    for row in stand.info.settings:
        for value in extreme_values(row):
            shown = repr(value)[:60]
            _try(stand, f"{row.key} = {shown}", **{row.key: value})


def _constructor(stand: Stand) -> None:
    settings: Any = stand.settings()  # an instance of the driver's own Settings
    with recorded_io() as heard:
        stand.driver(settings)  # type: ignore[call-arg] # a protocol cannot declare constructors
    expect(not heard, f"the constructor does input or output: {', '.join(heard[:3])}")


CHECKS: Final = (
    Check("describe-is-pure", "describes itself the same way each time, without I/O", _is_pure, ("describe",)),
    Check("describe-is-fast", "describes itself within 100 ms", _is_fast, ("describe",)),
    Check("import-is-light", "imports nothing heavy before open()", _imports_little, ("describe",)),
    Check("api-version", "is written for this version of the contract", _api_version, ("describe",)),
    Check("interface", "has the methods of its kind and of its abilities", _interface, ("describe",)),
    Check("settings-schema", "declares settings with types, defaults and descriptions", _schema, ("describe",)),
    Check("settings-accepted", "takes good settings", _accepted, ("interface", "settings-schema")),
    Check("settings-refused", "refuses each bad value with BadSettingsError", _refused, ("settings-accepted",)),
    Check("settings-at-limits", "takes or refuses extreme values in good order", _at_limits, ("settings-accepted",)),
    Check("constructor", "does no I/O in the constructor", _constructor, ("settings-accepted",)),
)
