"""The target of link workers: holds a transceiver's driver and, once it is told to, distils with it.

The driver is called by the main thread alone, as its contract wants: between calls of the daemon that thread does the
engine's work. Raw bits and secrets stay here; out go frames for the other end, finished blocks and reports.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

import msgspec

from qedge.base.errors import QedgeError
from qedge.qkd.authentication.stock import KeyStocks
from qedge.qkd.distillation.alice import AliceEngine
from qedge.qkd.distillation.bob import BobEngine
from qedge.qkd.distillation.course import Course, Source
from qedge.qkd.distillation.model import AliceSide, EngineSettings, Epsilons
from qedge.qkd.distillation.order import HALTED, DistilOrder
from qedge.qkd.distillation.stopwatch import Stopwatch
from qedge.qkd.simd.cpu import prepare_numba
from qedge.workers.driver_host import DriverHost, lied
from qedge.workers.host import HostLink
from qedge.workers.model import Msg
from qedge_driver_api import QkdRole, QkdTransceiver, settings_schema

if TYPE_CHECKING:
    from qedge.qkd.distillation.kernels import RoomKernels


_AGREED: Final = ("mean_photon_numbers", "intensity_probabilities", "z_basis_probability")
"""Properties of a transceiver on which the length of keys depends."""
_BLOCK_SETTING: Final = "block_detections"
_BLOCK_DETECTIONS: Final = 1 << 19
_MALLOPT: Final = ((-3, 32 << 20), (-1, 256 << 20), (-2, 16 << 20))
"""glibc's M_MMAP_THRESHOLD, M_TRIM_THRESHOLD and M_TOP_PAD, in bytes."""


class LinkHost(DriverHost):
    """A `DriverHost` that also distils: methods `distil` (a `DistilOrder`) and `rest`."""

    def __init__(self, init: Mapping[str, object], link: HostLink) -> None:
        state_dir = str(init.get("state_dir", ""))
        if state_dir and not os.environ.get("NUMBA_CACHE_DIR"):
            # Before a driver imports numba; one folder for all links of the node.
            prepare_numba(Path(state_dir).parent.parent / "kernels")
        _keep_memory()
        super().__init__(init, link)
        self._host = link
        self._course: Course | None = None
        self._stream = -1
        self._warm: RoomKernels | None = None
        self.add_method("distil", self._distil)
        self.add_method("rest", self._rest)

    def complete(self, settings: Mapping[str, object]) -> dict[str, object]:
        """Ask for large blocks of a driver that lets its host choose: each costs messages and calls."""
        if any(info.key == _BLOCK_SETTING for info in settings_schema(self._class.Settings)):
            return {_BLOCK_SETTING: _BLOCK_DETECTIONS, **settings}
        return dict(settings)

    def handle(self, method: str, args: Mapping[str, object]) -> Msg:
        """See `Target.handle`; settings that both ends have agreed on cannot change under an engine."""
        before = self._agreed() if method == "reconfigure" and self._course is not None else None
        answer = super().handle(method, args)
        if before is not None and self._agreed() != before:
            self._stop("the transceiver was set up anew")
        return answer

    def _agreed(self) -> tuple[object, ...]:
        properties = self.driver.properties()
        return tuple(properties.get(key) for key in ("role", "link", *_AGREED))

    def take(self, stream_id: int, message: object, _arrived_ns: int) -> None:
        """See `StreamTarget.take`: a frame of the other end, or none at the end of the stream."""
        course = self._course
        if course is not None and stream_id == self._stream and isinstance(message, bytes):
            course.arrived(message)

    def work(self) -> float | None:
        """See `WorkingTarget.work`."""
        if self._course is None:
            return None
        try:
            return self._course.work()
        except QedgeError as error:
            self._stop(str(error))
        except Exception as error:  # noqa: BLE001 - a fault in distilling must not take the driver away
            traceback.print_exc()
            self._stop(f"distilling failed: {type(error).__name__}")
        return None

    def _stop(self, reason: str) -> None:
        self._rest({})
        self._host.send_stream(self._stream, HALTED + reason.encode())

    def _rest(self, _args: Mapping[str, object]) -> Msg:
        course, self._course = self._course, None
        if course is not None:
            course.close()
        return None

    def _distil(self, args: Mapping[str, object]) -> Msg:
        order = msgspec.convert(dict(args), DistilOrder)
        self._rest({})
        stopwatch = Stopwatch()
        if self._warm is None:
            from qedge.qkd.distillation.kernels import RoomKernels  # brings numba, whose cache is chosen above

            self._warm = RoomKernels()
        kernels = self._warm
        kernels.stopwatch = stopwatch
        device = cast("QkdTransceiver", self.driver)
        settings = EngineSettings(
            order.link,
            order.block_bits,
            Epsilons(*order.epsilons),
            order.max_qber,
            order.clean_blocks,
            simulated=type(self.driver).describe().simulated,
        )
        stocks, properties = KeyStocks(order.seed, order.link), device.properties()
        stocks.restore(order.stocks)
        z_probability = _number(properties, _AGREED[2])
        engine: AliceEngine | BobEngine
        if properties.get("role") == QkdRole.ALICE:
            means, chances = (_numbers(properties, key) for key in _AGREED[:2])
            engine = AliceEngine(
                settings,
                AliceSide(means, chances, z_probability),
                Source(device, stopwatch),
                kernels,
                stocks,
                random_bytes=self.random_bytes,
                first_block=order.first_block,
            )
        else:
            engine = BobEngine(
                settings,
                z_probability,
                kernels,
                stocks,
                random_bytes=self.random_bytes,
                first_block=order.first_block,
                expected=order.expected,
            )
        self._stream = order.stream
        self._course = Course(
            engine,
            device,
            say=lambda message: self._host.send_stream(order.stream, message),
            wake=self._host.wake,
            stopwatch=stopwatch,
        )
        return {"role": str(properties.get("role", ""))}


def _keep_memory() -> None:
    """Have malloc keep what is freed: arrays of megabytes come and go all the time, and fresh pages cost as much as
    their use. Another C library does as it likes.
    """
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        for parameter, value in _MALLOPT:
            mallopt(parameter, value)


def _number(properties: Mapping[str, object], key: str) -> float:
    value = properties.get(key)
    if not isinstance(value, (int, float)) or not 0 < value <= 1:
        raise lied(f"property {key} is no probability")
    return float(value)


def _numbers(properties: Mapping[str, object], key: str) -> tuple[float, ...]:
    value = properties.get(key)
    if not isinstance(value, (list, tuple)) or not value or not all(isinstance(each, (int, float)) for each in value):
        raise lied(f"property {key} is no list of numbers")
    return tuple(float(each) for each in value)
