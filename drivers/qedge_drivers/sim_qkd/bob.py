"""Bob's end: asks the fibre for light and measures it."""

from __future__ import annotations

import socket
import time
from collections import deque
from collections.abc import Iterator

import numpy as np

from qedge_driver_api import DetectionBlock, DriverContext, Health, OperatingState, RetriableError
from qedge_drivers.sim_qkd.alice import generator
from qedge_drivers.sim_qkd.fibre import MAX_BLOCK_SLOTS, Light, ask, connect, default_fibre, is_open
from qedge_drivers.sim_qkd.physics import MAX_PHOTONS, Clicks, Pulses, Receiver, after_dead_time, detect
from qedge_drivers.sim_qkd.settings import SimQkdSettings

_FIRST_BLOCK_SLOTS = 1 << 18
_MIN_BLOCK_SLOTS = 1 << 14
_BLOCK_CLICKS = 12_500
"""Blocks are asked for in such lengths that about so many clicks come of them, whatever the loss."""

MAX_BLOCK_CLICKS = 1 << 15
"""Light that comes brighter than expected is handed on in several blocks, so that none is too long to take at once."""

_MAX_WAIT_S = 60.0
_HEALTH_WAIT_S = 0.2


class BobEnd:
    """The open device; `settings` may be replaced at any time."""

    def __init__(self, settings: SimQkdSettings, context: DriverContext) -> None:
        self.settings = settings
        self._random_bytes = context.random_bytes
        self._physics = generator(settings, context)
        self._fibre = settings.fibre or default_fibre(context.state_dir, settings.link)
        self._end: socket.socket | None = None
        self._measured: deque[DetectionBlock] = deque()
        self._ask_slots = _FIRST_BLOCK_SLOTS
        self._next_slot = -1
        self._blind_until = 0
        self._last_light = -1.0

    def close(self) -> None:
        """Leave the fibre."""
        if self._end is not None:
            self._end.close()
        self._end = None
        self._measured.clear()

    def health(self) -> Health:
        """Up while somebody at the other end sends light."""
        try:
            self._connected(_HEALTH_WAIT_S)
        except RetriableError as error:
            return Health(OperatingState.DEGRADED, str(error))
        age_s = time.monotonic() - self._last_light if self._last_light >= 0 else -1.0
        return Health(OperatingState.UP, data_age_s=age_s)

    def read_block(self, timeout_s: float) -> DetectionBlock | None:
        """Measure the next block; None where no light came in time."""
        if self._measured:
            return self._measured.popleft()
        until = time.monotonic() + min(max(timeout_s, 0.0), _MAX_WAIT_S)
        try:
            end = self._connected(until - time.monotonic())
            light = ask(end, self._ask_slots, max(until - time.monotonic(), 1e-3))
            self._measured.extend(_blocks(light, self._measure(light)))
        except TimeoutError:
            self.close()  # a late answer must not be taken for that to the next question
            return None
        except OSError as error:
            self.close()
            raise RetriableError(f"The fibre went dark: {error.strerror or error}.") from error
        except RetriableError:
            self.close()
            raise
        return self._measured.popleft()

    def _connected(self, timeout_s: float) -> socket.socket:
        if self._end is not None and not is_open(self._end):
            self.close()  # the other end was restarted
        if self._end is None:
            self._end = connect(self._fibre, max(timeout_s, 1e-3))
        return self._end

    def _measure(self, light: Light) -> Clicks:
        pulses = _pulses(light)
        settings = self.settings
        receiver = Receiver(
            settings.z_basis_probability,
            settings.detector_efficiency,
            settings.dark_count_probability,
            settings.misalignment,
            round(settings.dead_time_ns * 1e-9 * light.clock_hz),
        )
        clicks = detect(self._physics, self._random_bytes, receiver, pulses, light.num_slots)
        blind = self._blind_until if light.first_slot == self._next_slot else 0
        clicks, blind = after_dead_time(clicks, receiver.dead_slots, blind)
        self._next_slot, self._blind_until = light.first_slot + light.num_slots, max(blind - light.num_slots, 0)
        wanted = min(round(light.num_slots * _BLOCK_CLICKS / max(len(clicks.bits), 1)), 8 * self._ask_slots)
        self._ask_slots = min(max(wanted, _MIN_BLOCK_SLOTS), MAX_BLOCK_SLOTS)
        self._last_light = time.monotonic()
        return clicks


def _blocks(light: Light, clicks: Clicks) -> Iterator[DetectionBlock]:
    """Write clicks down in blocks of at most `MAX_BLOCK_CLICKS`, which together cover all slots of the light."""
    number = len(clicks.bits)
    begins = range(0, max(number, 1), MAX_BLOCK_CLICKS)
    edges = [0, *(int(clicks.offsets[begin]) for begin in begins[1:]), light.num_slots]
    for begin, low, high in zip(begins, edges[:-1], edges[1:], strict=True):
        part = slice(begin, begin + MAX_BLOCK_CLICKS)
        marked = clicks.bits[part]
        yield DetectionBlock(
            light.first_slot + low,
            high - low,
            (clicks.offsets[part].astype("<u8") + np.uint64(light.first_slot)).astype("<u8").tobytes(),
            clicks.bases[part].tobytes(),
            (marked & np.uint8(1)).tobytes(),
            int((marked >> np.uint8(1)).sum()),
        )


def _pulses(light: Light) -> Pulses:
    """Check what came out of the fibre; raises `RetriableError` where no pulses look like that."""
    offsets = np.frombuffer(light.offsets, "<u4").astype(np.int64)
    photons, states = np.frombuffer(light.photons, np.uint8), np.frombuffer(light.states, np.uint8)
    ordered = not len(offsets) or (bool(np.all(offsets[1:] > offsets[:-1])) and int(offsets[-1]) < light.num_slots)
    if not ordered or np.any(photons < 1) or np.any(photons > MAX_PHOTONS) or np.any(states > 3):
        raise RetriableError("What comes out of the fibre is no light of a simulated transceiver.")
    return Pulses(offsets, photons, states)
