"""Runs all checks that fit a driver, in order, each with a time limit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from qedge_driver_api.conformance import description, lifecycle, qkd, qpu, qrng
from qedge_driver_api.conformance.report import CheckResult, Outcome, Report
from qedge_driver_api.conformance.samples import sample_settings
from qedge_driver_api.conformance.stand import Check, Stand, expect, perform
from qedge_driver_api.driver import Driver, DriverInfo, DriverKind
from qedge_driver_api.held_folder import HeldFolder

LIMIT_S: Final = 60.0
CYCLES: Final = 20
PREFIX: Final = "qedge-kit-"

_BY_KIND: Final[Mapping[DriverKind, tuple[Check, ...]]] = {
    DriverKind.QPU: qpu.CHECKS,
    DriverKind.QRNG: qrng.CHECKS,
    DriverKind.QKD: qkd.CHECKS,
}


def run(
    driver: type[Driver],
    settings: Mapping[str, object] | None = None,
    *,
    limit_s: float = LIMIT_S,
    cycles: int = CYCLES,
) -> Report:
    """Check a driver class with plain `settings` (as in TOML); settings that must be given and are not get a sample.

    Every check has `limit_s` seconds; `cycles` is how often the driver is opened and closed in the search for leaks.
    A driver whose device is not there is skipped where the device is needed, and not failed.
    """
    described: list[DriverInfo] = []

    def describe(_stand: Stand) -> None:
        info = driver.describe()
        expect(isinstance(info, DriverInfo), f"describe() gave a {type(info).__name__} instead of a DriverInfo")
        description.check_info(info)
        described.append(info)

    name = f"{driver.__module__}:{driver.__qualname__}"
    with HeldFolder(PREFIX) as folder:
        nobody = DriverInfo("", DriverKind.QRNG, "", "", ())
        first = Check("describe", "says what it is in a DriverInfo with all facts", describe)
        results = [perform(first, Stand(driver, {}, nobody, folder, cycles), limit_s)]
        if not described:
            return Report(name, "unknown", tuple(results))
        info = described[0]
        stand = Stand(driver, sample_settings(info, settings or {}), info, folder, cycles)
        checks = (*description.CHECKS, *lifecycle.CHECKS, *_BY_KIND[info.kind])
        results += _perform_all(checks, stand, limit_s)
        return Report(info.name, info.kind.value, tuple(results))


def _perform_all(checks: tuple[Check, ...], stand: Stand, limit_s: float) -> list[CheckResult]:
    results: list[CheckResult] = []
    passed = {"describe"}
    for check in checks:
        missing = [need for need in check.needs if need not in passed]
        if missing:
            results.append(CheckResult(check.name, check.claim, Outcome.SKIPPED, f"needs {missing[0]}"))
            continue
        result = perform(check, stand, limit_s)
        results.append(result)
        if result.outcome is Outcome.PASSED:
            passed.add(check.name)
    return results
