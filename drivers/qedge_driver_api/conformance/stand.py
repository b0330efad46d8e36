"""The test stand: makes instances of the driver under test, and runs checks with a time limit."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Final

from qedge_driver_api.conformance.report import CheckResult, FailedError, Outcome, SkippedError
from qedge_driver_api.driver import Driver, DriverContext, DriverInfo, settings_from_mapping
from qedge_driver_api.errors import DriverError

_KEPT_BYTES: Final = 1 << 18


class Stand:
    """One driver class with settings to test it by.

    `given` is what the driver drew from the kit's random source (the first 256 KiB): it counts as secret.
    """

    def __init__(
        self, driver: type[Driver], values: Mapping[str, object], info: DriverInfo, folder: Path, cycles: int
    ) -> None:
        self.driver = driver
        self.values = dict(values)
        self.info = info
        self.folder = folder
        self.cycles = cycles
        self.given = bytearray()

    def settings(self, **changes: object) -> Any:  # an instance of the driver's own Settings
        """Make settings as the host does; raises `BadSettingsError`."""
        return settings_from_mapping(self.driver.Settings, {**self.values, **changes})

    def make(self, **changes: object) -> Any:  # a driver; of which protocol is what the checks find out
        """Make an instance as the host does; raises `BadSettingsError`."""
        return self.driver(self.settings(**changes))  # type: ignore[call-arg] # a protocol cannot declare constructors

    def context(self, name: str = "kit") -> DriverContext:
        """Make what a host gives to `open`, with a state folder of its own."""
        state_dir = self.folder / name
        state_dir.mkdir(mode=0o700, exist_ok=True)
        return DriverContext(name, str(state_dir), self._random_bytes, lambda: False)

    @contextlib.contextmanager
    def opened(self, name: str = "kit", **changes: object) -> Iterator[Any]:  # a driver, as above
        """Give an open instance; closing it is tidying up here and judged elsewhere."""
        driver = self.make(**changes)
        try:
            driver.open(self.context(name))
            yield driver
        finally:
            with contextlib.suppress(Exception):
                driver.close()

    def _random_bytes(self, number: int) -> bytes:
        data = os.urandom(number)
        self.given += data[: max(0, _KEPT_BYTES - len(self.given))]
        return data


@dataclass(frozen=True, slots=True)
class Check:
    """One check: `run` raises `FailedError` or `SkippedError`; it is made only after all it `needs` have passed."""

    name: str
    claim: str
    run: Callable[[Stand], None]
    needs: tuple[str, ...] = ()


def expect(condition: bool, detail: str) -> None:
    """Fail the check unless the condition holds."""
    if not condition:
        raise FailedError(detail)


def refuses(
    call: Callable[[], object], what: str, errors: type[DriverError] | tuple[type[DriverError], ...] = DriverError
) -> None:
    """Fail the check unless the call raises one of `errors`."""
    names = " or ".join(each.__name__ for each in (errors if isinstance(errors, tuple) else (errors,)))
    try:
        answer = call()
    except errors:
        return
    except Exception as error:
        raise FailedError(f"{what}: expected {names}, got {describe_error(error)}") from error
    raise FailedError(f"{what}: expected {names}, got the answer {str(answer)[:80]!r}")


def describe_error(error: BaseException) -> str:
    """Name an error with its text, for a report."""
    return f"{type(error).__name__}: {error}"[:300]


def perform(check: Check, stand: Stand, limit_s: float) -> CheckResult:
    """Make one check in a thread of its own; a check that takes longer than `limit_s` fails and is left behind."""
    ended: list[tuple[Outcome, str]] = []

    def body() -> None:
        try:
            check.run(stand)
            ended.append((Outcome.PASSED, ""))
        except SkippedError as reason:
            ended.append((Outcome.SKIPPED, str(reason)))
        except FailedError as reason:
            ended.append((Outcome.FAILED, str(reason)))
        except BaseException as error:  # noqa: BLE001 - whatever a driver raises belongs into the report
            ended.append((Outcome.FAILED, f"the driver raised {describe_error(error)}"))

    started = time.monotonic()
    # A daemon thread, so that a driver that hangs cannot keep the kit from ending.
    thread = threading.Thread(target=body, name=f"check-{check.name}", daemon=True)
    thread.start()
    thread.join(limit_s)
    seconds = time.monotonic() - started
    if not ended:
        frame = sys._current_frames().get(thread.ident or 0)  # the one way to say where a thread hangs
        where = _driver_frame(frame, stand.driver.__module__)
        ended.append((Outcome.FAILED, f"no answer within {limit_s:g} s{where}"))
    outcome, detail = ended[0]
    return CheckResult(check.name, check.claim, outcome, detail, seconds)


def _driver_frame(frame: FrameType | None, module: str) -> str:
    package = module.rpartition(".")[0] or module
    while frame is not None:
        name = str(frame.f_globals.get("__name__", ""))
        if name == module or name.startswith(package + "."):
            return f", in {frame.f_code.co_name} ({os.path.basename(frame.f_code.co_filename)}:{frame.f_lineno})"
        frame = frame.f_back
    return ""
