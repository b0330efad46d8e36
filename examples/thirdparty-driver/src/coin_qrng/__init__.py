"""A quantum coin as a random number generator: tossed eight times a byte, and sometimes it lands on its edge."""

from __future__ import annotations

import math
import random
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

__all__ = ["CoinQrng", "CoinSettings"]

_MAX_BYTES = 1 << 20
_CHUNK_BYTES = 1024
"""So many bytes are tossed between two looks at whether the answer is still wanted."""


@dataclass(frozen=True)
class CoinSettings:
    """What the maker knows of this coin."""

    bias: float = setting(0.0, description="Chance of heads beyond one half.", minimum=-0.25, maximum=0.25)
    edge_probability: float = setting(
        0.0, description="Chance that a toss ends on the edge and is made again.", minimum=0.0, maximum=0.5
    )
    min_entropy: float = setting(
        0.9, description="Min-entropy of a toss as assessed by the maker.", unit="bit", minimum=0.01, maximum=1.0
    )
    worn_out_after: int = setting(
        0, description="Tosses after which the coin is worn out; 0: never.", unit="tosses", minimum=0, maximum=2**62
    )


class CoinQrng:
    """Implements `QrngDriver`. The class needs no base; having the methods is enough."""

    Settings = CoinSettings

    def __init__(self, settings: CoinSettings) -> None:
        """Check what single limits cannot; touch nothing."""
        possible = -math.log2(0.5 + abs(settings.bias))
        if settings.min_entropy > possible:
            raise BadSettingsError(f"min_entropy: a coin of this bias has at most {possible:.3f} bits", "min_entropy")
        self._settings = settings
        self._coin: random.Random | None = None
        self._cancelled: Callable[[], bool] = lambda: False
        self._tosses = 0
        self._edges = 0
        self._last_read = -1.0

    @classmethod
    def describe(cls) -> DriverInfo:
        """Say what this driver is: pure, quick, the same each time."""
        return DriverInfo(
            name="coin_qrng",
            kind=DriverKind.QRNG,
            version="1.0.0",
            summary="Example: a simulated quantum coin that lands on its edge now and then.",
            settings=settings_schema(CoinSettings),
            simulated=True,
        )

    def probe(self) -> None:
        """Look whether the device is there, and leave it as it was. A simulated coin always is."""

    def open(self, context: DriverContext) -> None:
        """Take the coin in hand. A real driver opens its device here and raises `RetriableError` where that fails."""
        # The node's bytes stand for the physics; a real device brings its own, and a driver never adds to them.
        self._coin = random.Random(context.random_bytes(32))
        self._cancelled = context.cancelled

    def close(self) -> None:
        """Put the coin down; legal at any time."""
        self._coin = None

    def health(self) -> Health:
        """Answer at once from what is known."""
        if self._coin is None:
            return Health(OperatingState.DOWN, "not open")
        if self._is_worn_out:
            return Health(OperatingState.DEGRADED, "the coin is worn out")
        return Health(
            OperatingState.UP, data_age_s=time.monotonic() - self._last_read if self._last_read >= 0 else -1.0
        )

    def properties(self) -> Mapping[str, Property]:
        """Facts for the operator; never a secret, never a sample."""
        return {"tosses": self._tosses, "edges": self._edges, "bias": self._settings.bias}

    def read(self, num_bytes: int) -> RawSamples:
        """Toss the coin eight times a byte: raw samples, first toss in the most significant bit."""
        if not 1 <= num_bytes <= _MAX_BYTES:
            raise FatalError(f"A read gives 1 to {_MAX_BYTES} bytes.")
        if self._coin is None:
            raise RetriableError("The coin is not open.")
        data = bytearray()
        while len(data) < num_bytes:
            if self._cancelled():
                raise RetriableError("The read was cancelled.")
            if self._is_worn_out:
                raise FatalError("The coin is worn out; put in another one.")
            chunk = min(_CHUNK_BYTES, num_bytes - len(data))
            data += bytes(self._toss_byte(self._coin) for _ in range(chunk))
        self._last_read = time.monotonic()
        return RawSamples(bytes(data), 1, self._settings.min_entropy)

    @property
    def _is_worn_out(self) -> bool:
        return 0 < self._settings.worn_out_after <= self._tosses

    def _toss_byte(self, coin: random.Random) -> int:
        value = 0
        for _ in range(8):
            while coin.random() < self._settings.edge_probability:
                self._edges += 1
            value = value << 1 | (coin.random() < 0.5 + self._settings.bias)
        self._tosses += 8
        return value
