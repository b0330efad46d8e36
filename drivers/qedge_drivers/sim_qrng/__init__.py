"""A simulated quantum random number generator with the faults that real ones have."""

from __future__ import annotations

import math
import random
import threading
import time
from collections.abc import Mapping
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

_SEED_BYTES = 32
_BLOCK_BYTES = 4096


@dataclass(frozen=True)
class SimQrngSettings:
    """The source gives single bits; each differs from a fair coin by what is set here."""

    bias: float = setting(0.0, description="P(1) − ½ of each bit.", minimum=-0.4, maximum=0.4)
    correlation: float = setting(
        0.0, description="Chance that a bit repeats the one before, beyond what is fair.", minimum=0.0, maximum=0.9
    )
    drift_per_mib: float = setting(
        0.0, description="Bias added by each MiB of output, as a warming device shows.", minimum=-0.4, maximum=0.4
    )
    min_entropy: float = setting(
        0.9, description="Min-entropy that the maker claims, honest or not.", unit="bit/bit", minimum=0.1, maximum=1.0
    )
    stuck: bool = setting(False, description="Fault: every bit is the same.")
    dry: bool = setting(False, description="Fault: the device gives nothing, as one that was unplugged.")
    seed: int = setting(0, description="Seed of the simulated physics; 0 draws one.", minimum=0, maximum=2**63 - 1)


class SimQrng:
    """Implements `QrngDriver` with seeded physics: a Markov chain of bits with bias, correlation and drift."""

    Settings = SimQrngSettings

    def __init__(self, settings: SimQrngSettings) -> None:
        _check(settings)
        self._settings = settings
        self._physics: random.Random | None = None
        self._given_bytes = 0
        self._last_bit = 0
        self._last_read = -math.inf
        self._lock = threading.Lock()

    @classmethod
    def describe(cls) -> DriverInfo:
        """Say what this driver is."""
        return DriverInfo(
            name="sim_qrng",
            kind=DriverKind.QRNG,
            version="1.0",
            summary="Simulated quantum random number generator with bias, correlation, drift and stuck-at faults.",
            settings=settings_schema(SimQrngSettings),
            abilities=("reconfigure",),
            simulated=True,
        )

    def probe(self) -> None:
        """A simulated device is always there, unless it is set dry."""
        if self._settings.dry:
            raise RetriableError("The simulated device is set dry.")

    def open(self, context: DriverContext) -> None:
        """Start the physics."""
        seed = self._settings.seed or int.from_bytes(context.random_bytes(_SEED_BYTES), "big")
        self._physics = random.Random(seed)

    def close(self) -> None:
        """Forget the physics."""
        self._physics = None

    def reconfigure(self, settings: SimQrngSettings) -> None:
        """Take new settings at once; the physics goes on where it was."""
        _check(settings)
        self._settings = settings

    def health(self) -> Health:
        """The device does not know its own faults, as real ones do not; only a dry one shows."""
        if self._physics is None:
            return Health(OperatingState.DOWN, "not open")
        if self._settings.dry:
            return Health(OperatingState.DEGRADED, "the device gives nothing")
        age_s = time.monotonic() - self._last_read
        return Health(OperatingState.UP, data_age_s=age_s if math.isfinite(age_s) else -1.0)

    def properties(self) -> Mapping[str, Property]:
        """Facts about the open device."""
        return {
            "given_bytes": self._given_bytes,
            "bias_now": self._bias(),
            "stuck": self._settings.stuck,
            "min_entropy_claimed": self._settings.min_entropy,
        }

    def read(self, num_bytes: int) -> RawSamples:
        """Return `num_bytes` of single-bit samples."""
        if not 1 <= num_bytes <= 1 << 20:
            raise FatalError("A read gives 1 byte to 1 MiB.")
        with self._lock:
            if self._physics is None:
                raise RetriableError("The device is not open.")
            if self._settings.dry:
                raise RetriableError("The device gives nothing.")
            blocks = []
            left = num_bytes
            while left > 0:
                size = min(left, _BLOCK_BYTES)
                blocks.append(self._block(self._physics, size))
                self._given_bytes += size
                left -= size
            self._last_read = time.monotonic()
            return RawSamples(b"".join(blocks), 1, self._settings.min_entropy)

    def _bias(self) -> float:
        drift = self._settings.drift_per_mib * self._given_bytes / 2**20
        return max(-0.5, min(0.5, self._settings.bias + drift))

    def _block(self, physics: random.Random, size: int) -> bytes:
        if self._settings.stuck:
            return bytes(size)
        bias, correlation = self._bias(), self._settings.correlation
        if correlation > 0:
            return self._chain(physics, size, bias, correlation)
        number = _biased_bits(physics, 8 * size, 0.5 + bias)
        self._last_bit = number & 1
        return number.to_bytes(size, "big")

    def _chain(self, physics: random.Random, size: int, bias: float, correlation: float) -> bytes:
        """First-order Markov chain: with chance `correlation` the last bit again, else a fresh one."""
        bits, last = 0, self._last_bit
        for _ in range(8 * size):
            if physics.random() >= correlation:
                last = int(physics.random() < 0.5 + bias)
            bits = bits << 1 | last
        self._last_bit = last
        return bits.to_bytes(size, "big")


def _biased_bits(physics: random.Random, number: int, chance: float) -> int:
    """Return `number` independent bits that are 1 with `chance`, rounded to 1/65536.

    From the lowest binary digit of `chance` up, fair words are joined by OR (digit 1) or AND (digit 0): each step
    halves the chance and adds half a digit, exactly.
    """
    scaled = round(chance * 65_536)
    if scaled <= 0:
        return 0
    if scaled >= 65_536:
        return (1 << number) - 1
    result = 0
    for digit in range(16):
        if not scaled >> digit and result == 0:
            break
        if scaled >> digit & 1:
            result |= physics.getrandbits(number)
        elif result:
            result &= physics.getrandbits(number)
    return result


def _check(settings: SimQrngSettings) -> None:
    if abs(settings.bias + settings.drift_per_mib) > 0.5:
        raise BadSettingsError("bias: bias and the drift of one MiB together leave the range −½ … ½", "bias")
