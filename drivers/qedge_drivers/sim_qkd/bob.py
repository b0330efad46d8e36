"""Bob's end: asks the fibre for light and measures it."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections import deque
from typing import Final, Protocol

import numpy as np

from qedge_driver_api import DetectionBlock, DriverContext, Health, OperatingState, Property, QkdRole, RetriableError
from qedge_drivers.sim_qkd.alice import Dice
from qedge_drivers.sim_qkd.detectors import Clicks, Detectors, Incoming, NoLightError, Receiver
from qedge_drivers.sim_qkd.drbg import CtrDrbg
from qedge_drivers.sim_qkd.drift import misaligned
from qedge_drivers.sim_qkd.fibre import MAX_BLOCK_SLOTS, Light, Question, ask, connect, default_fibre, is_open
from qedge_drivers.sim_qkd.pacing import Pacer
from qedge_drivers.sim_qkd.philox import Philox
from qedge_drivers.sim_qkd.physics import transmittance
from qedge_drivers.sim_qkd.recording import Recording
from qedge_drivers.sim_qkd.settings import SimQkdSettings, figures

_FIRST_BLOCK_SLOTS: Final = 1 << 18
_MIN_BLOCK_SLOTS: Final = 1 << 12
_LONGEST_BLOCK_S: Final = 0.1
_MAX_GROWTH: Final = 8
_AHEAD_FROM: Final = 1 << 16
"""Blocks longer than this are fetched while the one before is measured."""

_MAX_WAIT_S: Final = 60.0
_HEALTH_WAIT_S: Final = 0.2
_SLEEP_S: Final = 0.1
_MIN_DUTY: Final = 1e-6
_STEADY: Final = 0.01
"""The share of slots that a limited receiver looks at stays where it is as long as it is right within this."""
_NO_LIGHT: Final = "What comes out of the fibre is no light of a simulated transceiver."


class Lamp(Protocol):
    """Where blocks of clicks come from: a fibre with detectors at its end, or a recording."""

    def clicks(self, settings: SimQkdSettings, timeout_s: float) -> tuple[list[Clicks], float]:
        """Return the next stretches of clicks and the clock; raises `TimeoutError`, `OSError`, `RetriableError`."""
        ...

    def close(self) -> None: ...

    def health(self) -> Health: ...

    def properties(self) -> dict[str, Property]: ...


class BobEnd:
    """The open device; `settings` may be replaced at any time."""

    def __init__(self, settings: SimQkdSettings, context: DriverContext) -> None:
        self.settings = settings
        self._cancelled = context.cancelled
        self._lamp: Lamp = RecordedLight(settings) if settings.replay else Fibre(settings, context)
        self._measured: deque[DetectionBlock] = deque()
        self._pacer = Pacer()
        self._due_s = 0.0

    def close(self) -> None:
        """Leave the fibre."""
        self._lamp.close()
        self._measured.clear()

    def health(self) -> Health:
        """Up while light comes."""
        return self._lamp.health()

    def properties(self) -> dict[str, Property]:
        """Say how the receiver does."""
        return {"clock_share": self._pacer.clock_share, **self._lamp.properties()}

    def read_block(self, timeout_s: float) -> DetectionBlock | None:
        """Measure the next block; None where no light came in time."""
        asked_s = time.monotonic()
        until = asked_s + min(max(timeout_s, 0.0), _MAX_WAIT_S)
        if not self._measured:
            try:
                parts, clock_hz = self._lamp.clicks(self.settings, max(until - asked_s, 1e-3))
            except TimeoutError:
                return None
            except OSError as error:
                self._lamp.close()
                raise RetriableError(f"The fibre went dark: {error.strerror or error}.") from error
            except RetriableError:
                self._lamp.close()
                raise
            duration_s = sum(part.num_slots for part in parts) / clock_hz
            self._due_s = self._pacer.due_s(asked_s, duration_s) if self.settings.realtime else asked_s
            self._measured.extend(_block(part) for part in parts)
            self._pacer.handed_over(asked_s, max(time.monotonic(), self._due_s), duration_s)
        while (now := time.monotonic()) < self._due_s:
            if now >= until or self._cancelled():
                return None
            time.sleep(min(self._due_s - now, until - now, _SLEEP_S))
        return self._measured.popleft()


class Fibre:
    """Light from Alice's end, measured by simulated detectors."""

    def __init__(self, settings: SimQkdSettings, context: DriverContext) -> None:
        warm_up()
        dice = Dice(settings, context)
        self._detectors = Detectors(dice.philox, dice.rare, CtrDrbg(context.random_bytes))
        self._drift = dice.drift
        self._place = settings.fibre or default_fibre(context.state_dir, settings.link)
        self._end: socket.socket | None = None
        self._flight: _Flight | None = None
        self._ask_slots = _FIRST_BLOCK_SLOTS
        self._duty = 1.0
        self._rate_hz = -1.0
        self._last_light = -1.0

    def close(self) -> None:
        """Leave the fibre."""
        end, self._end = self._end, None
        flight, self._flight = self._flight, None
        if end is not None:
            if flight is not None:
                flight.cancel(end)
            end.close()

    def health(self) -> Health:
        """Up while somebody at the other end sends light."""
        try:
            if self._flight is None:
                self._connected(_HEALTH_WAIT_S)
        except RetriableError as error:
            return Health(OperatingState.DEGRADED, str(error))
        age_s = time.monotonic() - self._last_light if self._last_light >= 0 else -1.0
        return Health(OperatingState.UP, data_age_s=age_s)

    def properties(self) -> dict[str, Property]:
        """`count_rate_hz` is that of the detectors, before the receiver's limit."""
        return {"count_rate_hz": self._rate_hz, "duty": self._duty}

    def clicks(self, settings: SimQkdSettings, timeout_s: float) -> tuple[list[Clicks], float]:
        """Measure the next block of light."""
        question, light = self._fetch(settings, timeout_s)
        receiver = figures(settings).receiver
        if settings.block_detections > _AHEAD_FROM and self._end is not None:
            self._flight = _Flight(self._end, self._question(settings))
        clock_hz = light.clock_hz
        angle = self._drift.step(light.num_slots / clock_hz, settings.misalignment_drift_deg, settings.drift_time_s)
        seen = Receiver(
            receiver.z_basis_probability,
            receiver.dark_count_probability,
            misaligned(receiver.misalignment, angle),
            round(receiver.dead_time_ns * 1e-9 * clock_hz),
            receiver.after_pulse_probability,
            max(receiver.after_pulse_time_ns * 1e-9 * clock_hz, 1e-3),
        )
        words = np.frombuffer(light.words, "<i4").astype(np.int32, copy=False)
        incoming = Incoming(light.first_slot, light.num_slots, words, light.blinds, question.duty)
        try:
            parts = self._detectors.measure(seen, incoming, settings.block_detections)
        except NoLightError:
            raise RetriableError(_NO_LIGHT) from None
        number = sum(len(part.bits) for part in parts)
        self._rate_hz = number / light.num_slots / question.duty * clock_hz
        limit_hz = receiver.max_count_rate_hz
        duty = max(_MIN_DUTY, min(1.0, limit_hz / max(self._rate_hz, 1e-9))) if limit_hz else 1.0
        self._duty = duty if abs(duty - self._duty) > _STEADY * duty else self._duty
        expected = max(number, 1) * self._duty / question.duty
        target = settings.block_detections - 6.0 * settings.block_detections**0.5
        wanted = min(target * light.num_slots / expected, _MAX_GROWTH * self._ask_slots, _LONGEST_BLOCK_S * clock_hz)
        self._ask_slots = min(max(round(wanted), _MIN_BLOCK_SLOTS), MAX_BLOCK_SLOTS)
        self._last_light = time.monotonic()
        return parts, clock_hz

    def _question(self, settings: SimQkdSettings) -> Question:
        receiver = figures(settings).receiver
        efficiency = receiver.efficiency * transmittance(receiver.loss_db)
        return Question(self._ask_slots, efficiency, self._duty)

    def _fetch(self, settings: SimQkdSettings, timeout_s: float) -> tuple[Question, Light]:
        """Take the light that is on its way, or ask for some; what does not come in time stays on its way.

        To hang up and ask again would have the other end make light for questions that nobody waits for any more.
        """
        until = time.monotonic() + timeout_s
        asked_before = self._flight is not None
        if self._flight is None:
            self._flight = _Flight(self._connected(timeout_s), self._question(settings))
        light = self._flight.light(max(until - time.monotonic(), 1e-3))
        question, self._flight = self._flight.question, None
        if light is not None and self._end is not None and is_open(self._end):
            return question, light
        self.close()  # the other end is gone: nobody knows any more what these pulses were
        if not asked_before:
            raise RetriableError("The fibre went dark: the other end is gone.")
        return self._fetch(settings, max(until - time.monotonic(), 1e-3))

    def _connected(self, timeout_s: float) -> socket.socket:
        if self._end is not None and not is_open(self._end):
            self.close()  # the other end was restarted
        if self._end is None:
            self._end = connect(self._place, max(timeout_s, 1e-3))
        return self._end


def warm_up() -> None:
    """Have the inner loops of Bob's end compiled, or loaded, before light comes: seconds once, then 0.1 s."""
    words = np.full(4, 1 << 8 | 1 << 2, np.int32)
    detectors = Detectors(Philox((0, 0), 0), np.random.default_rng(0), CtrDrbg(bytes))
    detectors.measure(Receiver(0.5, after_pulse_probability=0.5), Incoming(0, 8, words), 8)


class _Flight:
    """Light that was asked for ahead, received by a thread of its own."""

    def __init__(self, end: socket.socket, question: Question) -> None:
        self.question = question
        self._light: Light | None = None
        self._error: OSError | RetriableError | None = None
        self._thread = threading.Thread(target=self._receive, args=(end,), name="light", daemon=True)
        self._thread.start()

    def light(self, timeout_s: float) -> Light | None:
        """Wait for it; None where the fibre broke. Raises `TimeoutError` where it is to come, `RetriableError`."""
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            raise TimeoutError
        if isinstance(self._error, RetriableError):
            raise self._error
        return self._light

    def cancel(self, end: socket.socket) -> None:
        """Do not wait any longer."""
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
        self._thread.join(_MAX_WAIT_S)

    def _receive(self, end: socket.socket) -> None:
        try:
            self._light = ask(end, self.question, _MAX_WAIT_S)
        except (OSError, RetriableError) as error:
            self._error = error


class RecordedLight:
    """Clicks from a recording, once from its beginning to its end."""

    def __init__(self, settings: SimQkdSettings) -> None:
        self._recording = Recording.read(settings.replay, QkdRole.BOB)
        self._blocks = self._recording.blocks()
        self._ended = False

    def close(self) -> None:
        """Nothing is open."""

    def health(self) -> Health:
        """Up until the recording is at its end."""
        if self._ended:
            return Health(OperatingState.DEGRADED, "the recording is at its end")
        return Health(OperatingState.UP, "plays a recording")

    def properties(self) -> dict[str, Property]:
        """Nothing changes."""
        return {}

    def clicks(self, settings: SimQkdSettings, timeout_s: float) -> tuple[list[Clicks], float]:
        """Return the next block, in parts where it is longer than blocks may be."""
        block = next(self._blocks, None)
        if block is None:
            self._ended = True
            raise TimeoutError
        slots = block.offsets.astype(np.int64) + block.first_slot
        edges = range(0, max(len(slots), 1), settings.block_detections)
        begins = [block.first_slot, *(int(slots[edge]) for edge in edges[1:]), block.first_slot + block.num_slots]
        parts: list[Clicks] = []
        for edge, begin, end in zip(edges, begins[:-1], begins[1:], strict=True):
            part = slice(edge, edge + settings.block_detections)
            doubles = 0 if edge else block.double_clicks
            parts.append(Clicks(begin, end - begin, slots[part], block.bases[part], block.bits[part], doubles))
        return parts, self._recording.clock_hz


def _block(clicks: Clicks) -> DetectionBlock:
    return DetectionBlock(
        clicks.first_slot,
        clicks.num_slots,
        clicks.slots.astype("<i8", copy=False).tobytes(),
        clicks.bases.tobytes(),
        clicks.bits.tobytes(),
        clicks.double_clicks,
        clicks.live_slots,
    )
