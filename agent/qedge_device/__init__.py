"""The device side of a qedge gateway, for makers of devices: any OS, Python 3.9 or newer, few dependencies.

`RichDevice` stands in `qedge_device.rich` and needs `cryptography` 50 or newer; what is named here needs AES alone.
"""

from typing import TYPE_CHECKING

from qedge_device.frame import (
    HEADER_BYTES,
    MAX_COUNTER,
    OVERHEAD_BYTES,
    TAG_BYTES,
    FrameError,
    FrameHeader,
    Opener,
    ReplayWindow,
    Sealer,
    Suite,
    parse_header,
)
from qedge_device.reading import DeviceError

if TYPE_CHECKING:
    from qedge_device.constrained import ConstrainedDevice

__version__ = "0.1.0"

__all__ = [
    "HEADER_BYTES",
    "MAX_COUNTER",
    "OVERHEAD_BYTES",
    "TAG_BYTES",
    "ConstrainedDevice",
    "DeviceError",
    "FrameError",
    "FrameHeader",
    "Opener",
    "ReplayWindow",
    "Sealer",
    "Suite",
    "parse_header",
]


def __getattr__(name: str) -> object:
    """Load what only devices need when it is asked for: gateways and nodes share the frames alone (PEP 562)."""
    if name == "ConstrainedDevice":
        from qedge_device.constrained import ConstrainedDevice

        return ConstrainedDevice
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
