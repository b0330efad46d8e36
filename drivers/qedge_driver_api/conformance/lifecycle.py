"""Checks of what all drivers share once a device is involved: probe, open, close, health, properties."""

from __future__ import annotations

import base64
import binascii
import contextlib
import math
import re
from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from qedge_driver_api.conformance.report import FailedError, SkippedError
from qedge_driver_api.conformance.stand import Check, Stand, describe_error, expect, refuses
from qedge_driver_api.conformance.witness import Footprint
from qedge_driver_api.driver import DriverContext, DriverKind, Health, OperatingState, check_setting
from qedge_driver_api.errors import BadSettingsError, DriverError, FatalError, RetriableError

_WARM_CYCLES: Final = 2
_SECRET_WORDS: Final = re.compile(r"passw|secret|token|credential|private|api_?key", re.IGNORECASE)
_HEX: Final = re.compile(r"(?:[0-9a-fA-F]{2}){8,}")
_BASE64: Final = re.compile(r"[A-Za-z0-9+/_-]{12,}={0,2}")
_WINDOW_BYTES: Final = 8


def _health(driver: Any, when: str) -> Health:  # any driver
    try:
        health = driver.health()
    except Exception as error:
        raise FailedError(f"health() {when} raised {describe_error(error)}") from error
    if not isinstance(health, Health) or not isinstance(health.state, OperatingState):
        raise FailedError(f"health() {when} gave {health!r:.80} instead of a Health")
    expect(isinstance(health.reason, str), f"health() {when}: the reason is no text")
    age = health.data_age_s
    sane = isinstance(age, (int, float)) and math.isfinite(age) and (age == -1 or age >= 0)
    expect(sane, f"health() {when}: data_age_s is {age!r}; expected seconds, or -1 where there is no data")
    return health


def _closed(stand: Stand) -> None:
    first_calls: dict[DriverKind, tuple[tuple[str, tuple[object, ...]], ...]] = {
        DriverKind.QPU: (("qpu_properties", ()), ("result", ("no-such-job",))),
        DriverKind.QRNG: (("read", (16,)),),
        DriverKind.QKD: (("read_block", (0.05,)), ("preparations", (b"",)), ("take", (1, 256))),
    }
    driver = stand.make()
    for name, arguments in first_calls[stand.info.kind]:
        method = getattr(driver, name, None)
        if callable(method):
            refuses(partial(method, *arguments), f"{name}() before open()")


def _probe(stand: Stand) -> None:
    driver, folder = stand.make(), str(stand.folder)
    absent = ""
    with contextlib.suppress(DriverError):
        driver.probe()  # what the first call loads stays loaded, and is no trace of a probe
    before = Footprint.take(folder)
    for _ in range(3):
        try:
            driver.probe()
        except (RetriableError, FatalError) as error:
            absent = str(error)
    after = Footprint.settled(folder, before)
    expect(after.descriptors <= before.descriptors, "probe() leaves a descriptor open")
    expect(after.threads <= before.threads, "probe() leaves a thread running")
    expect(after.files == before.files, "probe() leaves files behind")
    expect(
        _health(driver, "after probe()").state is not OperatingState.UP, "the driver says it is up after probe() alone"
    )
    if absent:
        raise SkippedError(f"the device is not there: {absent}")


def _open(stand: Stand) -> None:
    driver = stand.make()
    try:
        driver.open(stand.context())
        state = _health(driver, "after open()").state
    finally:
        with contextlib.suppress(Exception):
            driver.close()
    expect(state is not OperatingState.DOWN, "the driver says it is down after open()")


def _close(stand: Stand) -> None:
    driver, when = stand.make(), "before open()"
    try:
        driver.close()
        driver.open(stand.context())
        when = "after open()"
        driver.close()
        when = "twice"
        driver.close()
    except Exception as error:
        raise FailedError(f"{when}: {describe_error(error)}") from error


def _open_again(stand: Stand) -> None:
    driver = stand.make()
    try:
        for number in range(3):
            try:
                driver.open(stand.context())
            except Exception as error:
                raise FailedError(f"open() number {number + 1}, after close(): {describe_error(error)}") from error
            driver.close()
        driver.open(stand.context())
        with contextlib.suppress(DriverError):
            driver.open(stand.context())  # without close(): taken or refused, but not broken
    finally:
        with contextlib.suppress(Exception):
            driver.close()


def _failed_open(stand: Stand) -> None:
    def no_bytes(_number: int) -> bytes:
        raise RetriableError("the kit has no random bytes")

    bad = DriverContext("kit", str(stand.folder / "missing" / "folder"), no_bytes, lambda: False)
    driver = stand.make()
    try:
        with contextlib.suppress(Exception):
            driver.open(bad)  # a driver that needs neither bytes nor the folder opens all the same
        try:
            driver.close()
        except Exception as error:
            raise FailedError(f"close() after a failed open(): {describe_error(error)}") from error
        try:
            driver.open(stand.context())
        except Exception as error:
            raise FailedError(f"open() after a failed one: {describe_error(error)}") from error
    finally:
        with contextlib.suppress(Exception):
            driver.close()


def _leaks(stand: Stand) -> None:
    driver, folder = stand.make(), str(stand.folder)

    def cycle() -> None:
        driver.open(stand.context())
        with contextlib.suppress(Exception):
            driver.close()

    for _ in range(_WARM_CYCLES):
        cycle()
    before = Footprint.take(folder)
    for _ in range(stand.cycles):
        cycle()
    after = Footprint.take(folder)
    enough = max(2, stand.cycles // 2)  # others may open something meanwhile, but not once a cycle
    for what, number in (
        ("descriptors", after.descriptors - before.descriptors),
        ("threads", after.threads - before.threads),
        ("files", len(after.files - before.files)),
    ):
        expect(number < enough, f"{stand.cycles} times open() and close() leave {number} {what}")


def _health_anywhere(stand: Stand) -> None:
    driver = stand.make()
    before = _health(driver, "before open()")
    expect(before.state is not OperatingState.UP, "the driver says it is up before open()")
    try:
        driver.open(stand.context())
        _health(driver, "after open()")
    finally:
        with contextlib.suppress(Exception):
            driver.close()
    expect(_health(driver, "after close()").state is not OperatingState.UP, "the driver says it is up after close()")


def _properties(stand: Stand) -> None:
    with stand.opened() as driver:
        facts = driver.properties()
    expect(isinstance(facts, Mapping), f"properties() gave a {type(facts).__name__} instead of a mapping")
    expect(len(facts) <= 256, f"{len(facts)} properties; at most 256")
    for key, value in facts.items():
        expect(isinstance(key, str) and bool(key), f"the key {key!r} is no text")
        for item in value if isinstance(value, (list, tuple)) else (value,):
            plain = isinstance(item, (str, int, float, bool))
            expect(plain, f"{key} is a {type(item).__name__}; expected text, number or truth, or a list of these")
            finite = not isinstance(item, float) or math.isfinite(item)
            expect(finite, f"{key} is {item}")


def _secrets(stand: Stand) -> None:
    hidden = {
        str(value)
        for key, value in stand.values.items()
        if _SECRET_WORDS.search(key) and isinstance(value, str) and len(value) > 3
    }
    with stand.opened() as driver:
        facts = dict(driver.properties())
        reason = driver.health().reason
    given = bytes(stand.given)
    for key, value in (*facts.items(), ("the reason of health()", reason)):
        expect(key.startswith("the ") or not _SECRET_WORDS.search(str(key)), f"the property {key} is named as a secret")
        for item in value if isinstance(value, (list, tuple)) else (value,):
            expect(not any(secret in str(item) for secret in hidden), f"{key} shows a secret setting")
            expect(not _shows(item, given), f"{key} shows bytes of the node's random source")


def _shows(value: object, given: bytes) -> bool:
    """Say whether a value holds eight of the given bytes in a row, as a number, in hex or in base64."""
    found: list[bytes] = []
    if isinstance(value, int) and value.bit_length() > 8 * (_WINDOW_BYTES - 1):
        raw = value.to_bytes((value.bit_length() + 7) // 8, "big", signed=False) if value > 0 else b""
        found += [raw, raw[::-1]]
    text = str(value)
    found += [bytes.fromhex(match) for match in _HEX.findall(text)]
    for match in _BASE64.findall(text):
        padded = match.translate({ord("-"): "+", ord("_"): "/"}) + "=" * (-len(match) % 4)
        with contextlib.suppress(binascii.Error):
            found.append(base64.b64decode(padded))
    return any(
        raw[start : start + _WINDOW_BYTES] in given for raw in found for start in range(len(raw) - _WINDOW_BYTES + 1)
    )


def _reconfigure(stand: Stand) -> None:
    if "reconfigure" not in stand.info.abilities:
        raise SkippedError("the driver has no such ability")
    with stand.opened() as driver:
        driver.reconfigure(stand.settings())
        expect(_health(driver, "after reconfigure()").state is not OperatingState.DOWN, "reconfigure() takes it down")
        for row in stand.info.settings:
            if row.default is None:
                continue
            with contextlib.suppress(BadSettingsError):
                driver.reconfigure(stand.settings(**{row.key: check_setting(row, row.default)}))
        driver.reconfigure(stand.settings())


CHECKS: Final = (
    Check("closed-driver", "answers calls before open() with a DriverError", _closed, ("settings-accepted",)),
    Check("probe", "leaves nothing behind after probe()", _probe, ("settings-accepted",)),
    Check("open", "opens and is not down then", _open, ("probe",)),
    Check("close", "closes in any state and never raises", _close, ("open",)),
    Check("open-again", "opens again after close()", _open_again, ("open",)),
    Check("failed-open", "closes and opens after a failed open()", _failed_open, ("open-again",)),
    Check("leaks", "leaves no descriptors, threads or files after many open() and close()", _leaks, ("open-again",)),
    Check("health", "tells its health in any state", _health_anywhere, ("open",)),
    Check("properties", "tells properties of plain types", _properties, ("open",)),
    Check("secrets", "shows no secrets in properties or health", _secrets, ("properties",)),
    Check("reconfigure", "takes new settings while open, as its abilities say", _reconfigure, ("open",)),
)
