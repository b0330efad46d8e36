"""The device side of a qedge gateway, for makers of devices: any OS, Python 3.9 or newer, few dependencies."""

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

__version__ = "0.1.0"

__all__ = [
    "HEADER_BYTES",
    "MAX_COUNTER",
    "OVERHEAD_BYTES",
    "TAG_BYTES",
    "FrameError",
    "FrameHeader",
    "Opener",
    "ReplayWindow",
    "Sealer",
    "Suite",
    "parse_header",
]
