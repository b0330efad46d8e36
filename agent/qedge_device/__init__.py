"""The device side of a qedge gateway, for makers of devices: any OS, Python 3.9 or newer, few dependencies.

`RichDevice` stands in `qedge_device.rich` and needs `cryptography` 50 or newer; what is named here needs AES alone.
"""

from qedge_device.constrained import ConstrainedDevice
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
