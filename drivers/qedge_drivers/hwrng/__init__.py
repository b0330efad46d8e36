"""A hardware random number generator behind a character device, such as /dev/hwrng or /dev/qrandom0."""

from __future__ import annotations

import errno
import math
import os
import select
import stat
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from qedge_driver_api import (
    BadSettingsError,
    DriverContext,
    DriverInfo,
    DriverKind,
    FatalError,
    Health,
    OperatingState,
    Property,
    RawSamples,
    RetriableError,
    setting,
    settings_schema,
)

_POLL_S = 0.1


def _never() -> bool:
    return False


@dataclass(frozen=True)
class HwRngSettings:
    """Which device, and what its maker assessed."""

    path: str = setting("/dev/hwrng", description="Character device that gives raw bytes.")
    bits_per_sample: int = setting(8, description="Bits of one sample: single bits or whole bytes.", choices=(1, 8))
    min_entropy_per_sample: float = setting(
        6.0, description="Min-entropy of one sample as assessed.", unit="bit", minimum=0.01, maximum=8.0
    )
    read_timeout_s: float = setting(
        2.0, description="A read that gives nothing for this long fails.", unit="s", minimum=0.05, maximum=60.0
    )


class HwRng:
    """Implements `QrngDriver` by non-blocking reads, so that a device that went silent is an error and not a hang."""

    Settings = HwRngSettings

    def __init__(self, settings: HwRngSettings) -> None:
        if not settings.path.startswith("/"):
            raise BadSettingsError("path: expected an absolute path", "path")
        if settings.min_entropy_per_sample > settings.bits_per_sample:
            raise BadSettingsError(
                "min_entropy_per_sample: a sample holds at most as much entropy as bits", "min_entropy_per_sample"
            )
        self._settings = settings
        self._file = -1
        self._cancelled: Callable[[], bool] = _never
        self._last_read = -math.inf
        self._error = ""

    @classmethod
    def describe(cls) -> DriverInfo:
        """Say what this driver is."""
        return DriverInfo(
            name="hwrng",
            kind=DriverKind.QRNG,
            version="1.0",
            summary="Random number generator behind a character device such as /dev/hwrng or /dev/qrandom0.",
            settings=settings_schema(HwRngSettings),
        )

    def probe(self) -> None:
        """Check that the device is there and may be read."""
        os.close(self._open_device())

    def open(self, context: DriverContext) -> None:
        """Open the device."""
        self.close()
        self._cancelled = context.cancelled
        self._file = self._open_device()
        self._error = ""

    def close(self) -> None:
        """Close the device."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def health(self) -> Health:
        """Up while open and giving."""
        if self._file < 0:
            return Health(OperatingState.DOWN, "not open")
        if self._error:
            return Health(OperatingState.DEGRADED, self._error)
        age_s = time.monotonic() - self._last_read
        return Health(OperatingState.UP, data_age_s=age_s if math.isfinite(age_s) else -1.0)

    def properties(self) -> Mapping[str, Property]:
        """Facts about the device."""
        return {"path": self._settings.path, "bits_per_sample": self._settings.bits_per_sample}

    def read(self, num_bytes: int) -> RawSamples:
        """Read exactly `num_bytes`; raises `RetriableError` where the device is silent or gone."""
        if not 1 <= num_bytes <= 1 << 20:
            raise FatalError("A read gives 1 byte to 1 MiB.")
        if self._file < 0:
            raise RetriableError("The device is not open.")
        data = bytearray()
        deadline = time.monotonic() + self._settings.read_timeout_s
        while len(data) < num_bytes:
            part = self._read_some(num_bytes - len(data), deadline)
            if part:
                data += part
                deadline = time.monotonic() + self._settings.read_timeout_s
        self._last_read = time.monotonic()
        self._error = ""
        return RawSamples(bytes(data), self._settings.bits_per_sample, self._settings.min_entropy_per_sample)

    def _read_some(self, number: int, deadline: float) -> bytes:
        if self._cancelled():
            raise RetriableError("The read was cancelled.")
        if time.monotonic() > deadline:
            raise self._silent("gives nothing")
        try:
            readable, _, _ = select.select([self._file], [], [], _POLL_S)
            if not readable:
                return b""
            part = os.read(self._file, number)
        except BlockingIOError:
            return b""
        except OSError as error:
            raise self._silent(f"cannot be read: {error.strerror}") from error
        if not part:
            raise self._silent("has ended")
        return part

    def _silent(self, what: str) -> RetriableError:
        self._error = f"{self._settings.path} {what}"
        return RetriableError(self._error + ".")

    def _open_device(self) -> int:
        path = self._settings.path
        try:
            file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except PermissionError as error:
            raise FatalError(
                f"{path} may not be read by this user; `qedge install --systemd --device {path}` writes the udev rule."
            ) from error
        except OSError as error:
            missing = error.errno in (errno.ENOENT, errno.ENXIO, errno.ENODEV)
            raise RetriableError(f"{path} {'is not there' if missing else error.strerror}.") from error
        if stat.S_ISREG(os.fstat(file).st_mode) or stat.S_ISDIR(os.fstat(file).st_mode):
            os.close(file)
            raise FatalError(f"{path} is no device: bytes of a file are never random twice.")
        return file
