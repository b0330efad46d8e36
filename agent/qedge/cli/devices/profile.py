"""Options of `qedge device` that say what a device is."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from qedge.base.errors import QedgeError

if TYPE_CHECKING:
    from qedge.wire.gateway import DeviceProfile


def add_profile_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare them."""
    parser.add_argument("--class", dest="device_class", default="", metavar="CLASS", help="its class, for policy")
    parser.add_argument("--segment", default="", help="its segment")
    parser.add_argument("--location", default="", help="where it is")
    parser.add_argument("--group", dest="groups", action="append", default=[], help="a group it is in (again)")
    parser.add_argument("--posture", action="append", default=[], help="what is known of its state (again)")
    parser.add_argument(
        "--attribute", dest="attributes", action="append", default=[], metavar="NAME=VALUE", help="more for policy"
    )
    parser.add_argument("--safety", action="store_true", help="detectors may only raise an alarm over it")


def profile_of(args: argparse.Namespace) -> DeviceProfile:
    """Return the profile that the options describe; raises `client.usage`."""
    import msgspec

    from qedge.wire.gateway import DeviceProfile

    pairs = [each.partition("=") for each in args.attributes]
    try:
        return msgspec.convert(
            {
                "device_class": args.device_class,
                "segment": args.segment,
                "location": args.location,
                "groups": args.groups,
                "attributes": {name: value for name, _, value in pairs},
                "posture": args.posture,
                "safety": args.safety,
            },
            DeviceProfile,
        )
    except msgspec.ValidationError as error:
        raise QedgeError(
            "client.usage", f"No device can be described so: {error}.", fix="Use letters, digits, - and _."
        ) from error
